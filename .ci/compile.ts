/**
 * One standalone executable per program in `dist/`, with all code and the files that its task may read inside:
 * `deno task compile`. A file `profiles/<program>/<name>.json` beside the executable is read before the one inside. Each
 * has the permissions and V8 flags of the program's task, save that it may read any file: where it will lie is not known yet.
 */
import { join } from "node:path";
import { base, withoutBase } from "./compile_base.ts";

const { tasks } = JSON.parse(Deno.readTextFileSync("deno.json"));
const exclusions = testsOfBintrees().flatMap((folder) => ["--exclude", folder]);

say(
  `compile: uses ${base}, which Deno downloads from dl.deno.land (about 40 MB) if its cache lacks it; ` +
    "DENORT_BIN names a file to use instead",
);
for (const program of ["ticket", "spear", "stat", "idgen", "minions"]) {
  const words: string[] = tasks[program].split(" ");
  const [files = `${program}/profiles`] = words.flatMap((word) =>
    /^--allow-read=(.*)/.exec(word)?.[1] ?? []
  );
  const flags = words.filter((word) => /^--(allow-|ignore-|v8-flags)/.test(word))
    .map((word) => word.startsWith("--allow-read=") ? "--allow-read" : word);
  const { success, stderr } = await new Deno.Command("deno", {
    args: [
      "compile",
      ...flags,
      // What shared/systemd.ts needs; the unit has RuntimeDirectory=gru/<program>.
      ...["--unstable-net", "--allow-write=/run/gru,/run/systemd/notify"],
      ...files.split(",").flatMap((path) => ["--include", path]),
      // What only tests need stays out.
      "--exclude-unused-npm",
      ...exclusions,
      ...["--output", `dist/${program}`],
      `${program}/main.ts`,
    ],
    stdout: "inherit",
    stderr: "piped",
  }).output();
  const text = new TextDecoder().decode(stderr).trimEnd();
  say(success ? text : withoutBase(text) ?? text);
  if (!success) Deno.exit(1);
}

function say(line: string): void {
  // deno-lint-ignore no-console
  console.error(line);
}

/**
 * A package that prom-client brings has a test file of 100 000 lines which reads as one expression, as deeply nested:
 * looking at it overflows the compiler's stack (Deno 2.9.3).
 */
function testsOfBintrees(): string[] {
  const { stdout } = new Deno.Command("deno", { args: ["info", "--json"] }).outputSync();
  const { npmCache } = JSON.parse(new TextDecoder().decode(stdout));
  return foldersIn(npmCache)
    .flatMap((registry) => foldersIn(join(registry, "bintrees")))
    .map((version) => join(version, "test"));
}

function foldersIn(path: string): string[] {
  try {
    return [...Deno.readDirSync(path)].filter((entry) => entry.isDirectory)
      .map(({ name }) => join(path, name));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
