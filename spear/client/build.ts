/// <reference lib="deno.ns" />
/**
 * `deno task client:build` makes of the library what others take: `gru.js`, the module for pages, which ticket serves and which is
 * committed, so that nothing is built where ticket runs; and the npm package, with types, in `dist/client`.
 */
import { pageModule as page, typedModule, versionOf } from "@gru/shared/deploy/npm_package";

const here = new URL(".", import.meta.url);
const dist = new URL("../../dist/client/", import.meta.url);
const workshop = { from: here, dist };
const { version } = JSON.parse(Deno.readTextFileSync(new URL("deno.json", here)));

/** The module for pages: everything in it, minified. */
export function pageModule(): Promise<string> {
  return page(workshop, "mod.ts");
}

/** The files of the npm package by their names. */
export async function npmPackage(): Promise<ReadonlyMap<string, string>> {
  // What comes from another module of this package stays outside, too.
  const external = ["socket.io-client", "react", "@gru/client"];
  const modules = await Promise.all([
    typedModule(workshop, { name: "index", entry: "mod.ts", external }),
    typedModule(workshop, { name: "react", entry: "react.ts", external }),
  ]);
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
    dependencies: { "socket.io-client": `^${versionOf("socket.io-client")}` },
    peerDependencies: { react: ">=18" },
    peerDependenciesMeta: { react: { optional: true } },
  };
  return new Map([
    ["package.json", `${JSON.stringify(description, null, 2)}\n`],
    ...modules.flat(),
    ["gru.js", await pageModule()],
    ["README.md", Deno.readTextFileSync(new URL("README.md", here))],
  ]);
}

if (import.meta.main) {
  for (const [name, text] of await npmPackage()) {
    Deno.writeTextFileSync(new URL(name, dist), text);
  }
  Deno.copyFileSync(new URL("gru.js", dist), new URL("gru.js", here));
  // deno-lint-ignore no-console -- a tool for people
  console.log(`${here.pathname}gru.js and ${dist.pathname}`);
}
