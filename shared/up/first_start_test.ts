/** What a first start costs on a machine that has nothing yet. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { projectRoot } from "@gru/shared/testing/harness";

const limitMb = 70;

interface Package {
  readonly localPath: string;
}

/** On the disk, in bytes, as `du` counts; undefined when the folder is not there. */
function diskUse(folder: string): number | undefined {
  try {
    let bytes = blocks(folder);
    for (const { name, isDirectory } of Deno.readDirSync(folder)) {
      const path = join(folder, name);
      bytes += isDirectory ? diskUse(path) ?? 0 : blocks(path);
    }
    return bytes;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function blocks(path: string): number {
  const { blocks, size } = Deno.lstatSync(path);
  return blocks === null ? size : blocks * 512;
}

Deno.test(`what deno.lock makes a first start download takes at most ${limitMb} MB`, async () => {
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", "shared/up/main.ts"],
    cwd: projectRoot,
    stderr: "null",
  }).output();
  assert.ok(success, "deno info");
  const { npmPackages } = JSON.parse(new TextDecoder().decode(stdout));
  const lock = JSON.parse(await Deno.readTextFile(join(projectRoot, "deno.lock")));
  assert.deepEqual(
    Object.keys(npmPackages).sort(),
    Object.keys(lock.npm).sort(),
    "deno info sees what deno.lock names",
  );

  const sizes = Object.entries<Package>(npmPackages).map(([name, { localPath }]) => {
    const bytes = diskUse(localPath);
    // Made for another machine than this one.
    const foreign = ["os", "cpu", "libc"].some((kind) => kind in lock.npm[name]);
    assert.ok(bytes !== undefined || foreign, `${name} is in the cache, at ${localPath}`);
    return { name, mb: (bytes ?? 0) / 1e6 };
  }).sort((a, b) => b.mb - a.mb);
  const total = sizes.reduce((sum, { mb }) => sum + mb, 0);
  const largest = sizes.slice(0, 10).map(({ name, mb }) => `${name} ${mb.toFixed(1)}`);
  assert.ok(total <= limitMb, `${total.toFixed(1)} MB, of which ${largest.join(", ")}`);
});
