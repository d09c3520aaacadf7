/**
 * Writes what is made from the schemas of the profiles: `deno task schema` the JSON Schemas, `deno task docs` the pages of all
 * keys and of all metrics. `deno task lint` compares them with what the schemas say now.
 */
import { fileURLToPath } from "node:url";
import { jsonSchemaOf } from "../config/json_schema.ts";
import { keysPage } from "../config/page.ts";
import { metricsPage } from "./metrics_page.ts";
import { programs } from "./programs.ts";

const introduction = `# Configuration

<!-- \`deno task docs\` writes this page. Change the schemas instead: their words are these. -->

A program starts with a profile: a JSON file that holds what differs from the defaults below. Every key is also a
flag of the same name, and a flag counts more than the file: \`deno task spear:test1 --limits.authMs 5000\`. A list is
given to a flag with commas. In a file, the dots of a key are groups: \`{ "limits": { "authMs": 5000 } }\`.

- **Which profile.** \`--profile dev\` (also the default), \`test1\`, \`test2\` and \`production\` are files in the program's
  folder \`profiles\`; \`deno task spear:production\` is short for \`deno task spear --profile production\`. A profile may
  also be a path: \`--profile ./mine.json\`, from the project's folder. A task may read its own folder only, so give it
  the permission: \`GRU_PERMISSIONS=--allow-read=/etc/gru deno task spear --profile /etc/gru/spear.json\`. The files of
  \`rpc.certFile\`, \`rpc.keyFile\` and \`rpc.caFile\` need it, too.
- **What a file may hold.** Comments, a comma after the last element, a byte order mark, and \`$schema\`: with
  \`"$schema": "../profile.schema.json"\` an editor completes keys and shows their meanings. \`deno task schema\` writes
  these JSON Schemas.
- **What is wrong.** \`--check\` names everything that is wrong, one line each, and exits with 2, or with 0 if there is
  nothing. \`--print-config\` prints the configuration in force, secrets as \`***\`. A start that fails says the same. It
  exits with 2 for what another start does not mend (also a port in use, or a password that Redis refuses), else with 1.
- **Keys of a newer version.** During an upgrade programs of two versions may read one file. A program ignores a key
  that it does not know, with a warning. It refuses a key that looks like a misspelling, and any unknown key in the
  groups \`auth\`, \`rpc\` and \`zookeeper\`, which protect the cluster. An unknown flag is refused.
- **Keys with a new name.** The former name goes on working, with a warning that names the new one. A file may hold
  both; then the new one counts.
- **Secrets.** They come from environment variables only, never from a file or a flag. The profile \`production\` does not
  start without any of them, and names all that are missing.
`;

/** The text of each file, by its place in the project. */
export function pageFiles(): ReadonlyMap<string, string> {
  const five = programs.filter(({ name }) => name !== "up").map(({ name }) => name);
  return new Map([
    ["shared/docs/configuration.md", `${introduction}\n${keysPage(programs, five)}\n`],
    ["shared/docs/metrics.md", metricsPage()],
  ]);
}

/** The text of each file, by its place in the project. */
export function schemaFiles(): ReadonlyMap<string, string> {
  return new Map(programs.map(({ name, schema }) => [
    `${name === "up" ? "shared/up" : name}/profile.schema.json`,
    `${JSON.stringify(jsonSchemaOf(schema, `a profile of ${name}`), null, 2)}\n`,
  ]));
}

const pathOf = (file: string) => fileURLToPath(new URL(`../../${file}`, import.meta.url));

/** The files that are not what the schemas say now, with the task that writes them. */
export function outdated(): string[] {
  const all = [["docs", pageFiles()], ["schema", schemaFiles()]] as const;
  return all.flatMap(([task, files]) =>
    [...files].filter(([file, text]) => Deno.readTextFileSync(pathOf(file)) !== text)
      .map(([file]) => `${file} is out of date: run deno task ${task}`)
  );
}

if (import.meta.main) {
  const [what] = Deno.args;
  if (what === "check") {
    const lines = outdated();
    // deno-lint-ignore no-console
    for (const line of lines) console.error(line);
    Deno.exit(lines.length === 0 ? 0 : 1);
  }
  const files = what === "schema" ? schemaFiles() : pageFiles();
  for (const [file, text] of files) Deno.writeTextFileSync(pathOf(file), text);
}
