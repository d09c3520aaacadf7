/**
 * `deno task server:build` writes the types of stat's HTTP API (`paths.ts`, which is committed), and the npm package `@gru/server`
 * into `dist/server`.
 */
import { fileURLToPath } from "node:url";
import { typedModule, versionOf } from "@gru/shared/deploy/npm_package";
import { logger } from "@gru/shared/log";
import { createApi } from "./api.ts";
import { hooksSchema } from "./hooks/config.ts";
import { Operations } from "./operations.ts";
import { MemoryStore } from "./store_memory.ts";

const here = new URL("client/", import.meta.url);
const dist = new URL("../dist/server/", import.meta.url);
const { version } = JSON.parse(Deno.readTextFileSync(new URL("deno.json", here)));
const typescriptOf = "openapi-typescript@7.13.0";

/** The types of all routes, as openapi-typescript makes them of the document that stat serves. */
export async function pathsModule(): Promise<string> {
  const store = new MemoryStore();
  const app = createApi({
    operations: new Operations({ store, spears: {} as never, instances: () => [] }),
    apiKey: undefined,
    closing: AbortSignal.abort(),
    auditMs: 1,
    hooks: hooksSchema.parse({ enabled: true, secret: `whsec_${btoa("x".repeat(24))}` }),
    log: logger("stat"),
  });
  const document = await (await app.request("/openapi.json", { headers: { host: "localhost" } }))
    .text();
  const folder = await Deno.makeTempDir({ prefix: "gru_openapi_" });
  try {
    await Deno.writeTextFile(`${folder}/openapi.json`, document);
    const lock = fileURLToPath(new URL("openapi_typescript.lock", here));
    await run(folder, [
      ...["run", "--quiet", "--no-prompt", "--no-config", "--node-modules-dir=none", "--frozen"],
      ...[`--lock=${lock}`, "--allow-read", "--allow-write=.", "--allow-env", "--allow-sys"],
      ...[
        `npm:${typescriptOf}`,
        "openapi.json",
        "--output",
        "paths.ts",
        "--default-non-nullable",
        "false",
      ],
    ]);
    await run(folder, ["fmt", "--quiet", "--no-config", "--line-width", "100", "paths.ts"]);
    return await Deno.readTextFile(`${folder}/paths.ts`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** The files of the npm package by their names. */
export async function npmPackage(): Promise<ReadonlyMap<string, string>> {
  const external = ["jose", "openapi-fetch", "eventsource-parser/stream"];
  const description = {
    name: "@gru/server",
    version,
    description: "The library for business systems behind Gru: the API, events, hooks, tokens",
    type: "module",
    sideEffects: false,
    exports: { ".": { types: "./index.d.ts", default: "./index.js" } },
    types: "./index.d.ts",
    main: "./index.js",
    engines: { node: ">=22.12" },
    dependencies: Object.fromEntries(
      ["eventsource-parser", "jose", "openapi-fetch"].map((name) => [name, `^${versionOf(name)}`]),
    ),
  };
  return new Map([
    ["package.json", `${JSON.stringify(description, null, 2)}\n`],
    ...await typedModule({ from: here, dist }, { name: "index", entry: "mod.ts", external }),
    ["README.md", Deno.readTextFileSync(new URL("README.md", here))],
  ]);
}

async function run(cwd: string, args: readonly string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command("deno", { args: [...args], cwd })
    .output();
  if (!success) throw new Error(`deno ${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
}

if (import.meta.main) {
  Deno.writeTextFileSync(new URL("paths.ts", here), await pathsModule());
  const files = await npmPackage();
  for (const [name, text] of files) Deno.writeTextFileSync(new URL(name, dist), text);
  // deno-lint-ignore no-console -- a tool for people
  console.log(`${here.pathname}paths.ts and ${dist.pathname}`);
}
