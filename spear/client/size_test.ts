/// <reference lib="deno.ns" />
/** What the library adds to a page, over socket.io-client. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { slowTest } from "@gru/shared/testing/harness";

const { imports } = JSON.parse(
  Deno.readTextFileSync(new URL("../../deno.json", import.meta.url)),
);
const mostBytes = 6 * 1024;

/** Bytes of the module as a page gets it: minified, with everything in it, compressed. */
async function sizeOf(folder: string, name: string, entry: string): Promise<number> {
  const output = `${folder}/${name}.js`;
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["bundle", "--quiet", "--platform", "browser", "--minify", "--output", output, entry],
    cwd: fileURLToPath(new URL(".", import.meta.url)),
  }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
  return gzipSync(await Deno.readFile(output), { level: 9 }).length;
}

slowTest("the library adds at most 6 KB to a page that has socket.io-client", async () => {
  const folder = await Deno.makeTempDir({ prefix: "gru_size_" });
  try {
    const socketIo = await sizeOf(folder, "io", imports["socket.io-client"]);
    const all = await sizeOf(folder, "all", "mod.ts");
    assert.ok(socketIo > 10_000, `socket.io-client: ${socketIo} bytes`);
    assert.ok(all - socketIo <= mostBytes, `${all - socketIo} bytes`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
