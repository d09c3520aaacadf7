/**
 * npm packages that only few tests need. They are not in `deno.lock`, because every first start of a program downloads
 * everything in it. Such a test has its own lock, and downloads the packages when it runs.
 */
import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/**
 * Installs what the lock names, in the version and with the checksum that stand there, into the cache folder. Resolves to
 * Node's `require` for these packages; `require.resolve` gives the path of a file in one.
 *
 * To write a lock, also for a new version:
 * `rm <lock>; deno cache --no-config --node-modules-dir=none --lock=<lock> npm:<package>@<version>`
 * @throws Error with the output of `deno` when a package is not to be had, or differs from the lock.
 */
export async function requireFrom(lock: URL): Promise<NodeJS.Require> {
  const text = await Deno.readTextFile(lock);
  const { specifiers } = JSON.parse(text);
  const folder = join(cacheFolder(), createHash("sha256").update(text).digest("hex").slice(0, 16));
  await Deno.mkdir(folder, { recursive: true });
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["cache", "--quiet", "--no-config", "--node-modules-dir=auto", "--frozen"],
      ...[`--lock=${fileURLToPath(lock)}`, ...Object.keys(specifiers)],
    ],
    cwd: folder,
  }).output();
  if (!success) {
    throw new Error(`Packages of ${lock}: ${new TextDecoder().decode(stderr)}`);
  }
  return createRequire(`${folder}/`);
}

function cacheFolder(): string {
  const cache = Deno.env.get("XDG_CACHE_HOME") || `${Deno.env.get("HOME")}/.cache`;
  return join(cache, "gru", "packages");
}
