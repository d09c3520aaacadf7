/** Makes npm packages of the libraries in this workspace. */
import { fileURLToPath } from "node:url";

/** What a package is made in. */
export interface Workshop {
  /** The folder of the library. */
  readonly from: URL;
  /** Where temporary files may be. */
  readonly dist: URL;
}

/**
 * A module for packages, and its types.
 * @param external packages that stay outside
 */
export async function typedModule(
  { from, dist }: Workshop,
  { name, entry, external }: {
    readonly name: string;
    readonly entry: string;
    readonly external: readonly string[];
  },
): Promise<[name: string, text: string][]> {
  const outside = external.flatMap((package_) => ["--external", package_]);
  return await inFolder(dist, async (folder) => {
    await bundle(from, ["--declaration", ...outside], `${folder}/${name}.js`, entry);
    return [`${name}.js`, `${name}.d.ts`]
      .map((file) => [file, Deno.readTextFileSync(`${folder}/${file}`)]);
  });
}

/** A module with everything in it, minified. */
export async function pageModule({ from, dist }: Workshop, entry: string): Promise<string> {
  return await inFolder(dist, async (folder) => {
    await bundle(from, ["--minify"], `${folder}/page.js`, entry);
    return Deno.readTextFileSync(`${folder}/page.js`);
  });
}

/** The version that the root's deno.json has of a package. */
export function versionOf(package_: string): string {
  const config = Deno.readTextFileSync(new URL("../../deno.json", import.meta.url));
  const { imports } = JSON.parse(config);
  const specifier = imports[package_] ?? imports[`${package_}/`];
  return /@(\d[^@/]*)\/?$/.exec(specifier)?.[1] ?? "";
}

async function bundle(
  from: URL,
  options: readonly string[],
  output: string,
  entry: string,
): Promise<void> {
  const { success, stderr } = await new Deno.Command("deno", {
    args: ["bundle", "--quiet", "--platform", "browser", ...options, "--output", output, entry],
    cwd: fileURLToPath(from),
  }).output();
  if (!success) throw new Error(`deno bundle: ${new TextDecoder().decode(stderr)}`);
}

async function inFolder<T>(dist: URL, work: (folder: string) => Promise<T>): Promise<T> {
  const dir = fileURLToPath(dist);
  await Deno.mkdir(dir, { recursive: true });
  const folder = await Deno.makeTempDir({ dir });
  try {
    return await work(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
