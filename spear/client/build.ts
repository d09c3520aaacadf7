/// <reference lib="deno.ns" />
/**
 * `deno task client:build` makes of the library what others take: `gru.js`, the module for pages, which ticket serves and which is
 * committed, so that nothing is built where ticket runs; and the npm package, with types, in `dist/client`.
 */
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const dist = fileURLToPath(new URL("../../dist/client/", import.meta.url));
const { version } = read("deno.json");
const { imports } = read("../../deno.json");
const socketIo = /@([^@]+)$/.exec(imports["socket.io-client"])?.[1] ?? "";

/** The module for pages: everything in it, minified. */
export async function pageModule(): Promise<string> {
  return await inFolder(async (folder) => {
    await bundle(["--minify"], `${folder}/gru.js`, "mod.ts");
    return Deno.readTextFileSync(`${folder}/gru.js`);
  });
}

/** The files of the npm package by their names. */
export async function npmPackage(): Promise<ReadonlyMap<string, string>> {
  const modules = await Promise.all([typed("index", "mod.ts"), typed("react", "react.ts")]);
  const description = {
    name: "@gru/client",
    version,
    description: "The client of Gru: groups and users with guaranteed delivery over socket.io",
    type: "module",
    sideEffects: false,
    exports: {
      ".": { types: "./index.d.ts", default: "./index.js" },
      "./react": { types: "./react.d.ts", default: "./react.js" },
      "./gru.js": "./gru.js",
    },
    types: "./index.d.ts",
    main: "./index.js",
    unpkg: "./gru.js",
    engines: { node: ">=20" },
    dependencies: { "socket.io-client": `^${socketIo}` },
    peerDependencies: { react: ">=18" },
    peerDependenciesMeta: { react: { optional: true } },
  };
  return new Map([
    ["package.json", `${JSON.stringify(description, null, 2)}\n`],
    ...modules.flat(),
    ["gru.js", await pageModule()],
    ["README.md", Deno.readTextFileSync(`${here}README.md`)],
  ]);
}

/** A module of the npm package, and its types: what comes from other packages, and from another module of this one, stays outside. */
async function typed(name: string, entry: string): Promise<[name: string, text: string][]> {
  const outside = ["socket.io-client", "react", "@gru/client"]
    .flatMap((package_) => ["--external", package_]);
  return await inFolder(async (folder) => {
    await bundle(["--declaration", ...outside], `${folder}/${name}.js`, entry);
    return [`${name}.js`, `${name}.d.ts`]
      .map((file) => [file, Deno.readTextFileSync(`${folder}/${file}`)]);
  });
}

async function bundle(options: readonly string[], output: string, entry: string): Promise<void> {
  const { success, stderr } = await new Deno.Command("deno", {
    args: ["bundle", "--quiet", "--platform", "browser", ...options, "--output", output, entry],
    cwd: here,
  }).output();
  if (!success) throw new Error(`deno bundle: ${new TextDecoder().decode(stderr)}`);
}

async function inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  await Deno.mkdir(dist, { recursive: true });
  const folder = await Deno.makeTempDir({ dir: dist });
  try {
    return await work(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

// deno-lint-ignore no-explicit-any -- files of our own
function read(path: string): any {
  return JSON.parse(Deno.readTextFileSync(`${here}${path}`));
}

if (import.meta.main) {
  for (const [name, text] of await npmPackage()) Deno.writeTextFileSync(dist + name, text);
  Deno.copyFileSync(`${dist}gru.js`, `${here}gru.js`);
  // deno-lint-ignore no-console -- a tool for people
  console.log(`${here}gru.js and ${dist}`);
}
