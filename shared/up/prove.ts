/**
 * The mutation gate: takes the guards of the code out, one at a time, in a copy of the tree, and demands that the search finds
 * a history that breaks a promise without it. `deno task prove [--histories=2000] [--workers=2] [--only=word|word]`.
 */
import { type Edit, type Guard, guards } from "./prove_guards.ts";
import type { Searched } from "./sim_search.ts";

const folders = ["shared", "spear", "stat", "ticket", "idgen", "minions"];
const kept = /\.(ts|tsx|json|lua)$/;
/** A search that plays no history for so long hangs: also a way to show that something is missing. */
const silenceMs = 300_000;

interface Row {
  readonly guard: Guard;
  /** Undefined: it was not found. */
  readonly after: number | undefined;
  readonly seed: string;
  readonly what: string;
}

// deno-lint-ignore no-console
const say = console.log;

function flag(name: string): string | undefined {
  return Deno.args.find((arg) => arg.startsWith(`--${name}=`))?.slice(name.length + 3);
}

function copyTree(from: string, to: string): void {
  Deno.mkdirSync(to, { recursive: true });
  for (const { name, isDirectory, isFile } of Deno.readDirSync(from)) {
    if (isDirectory) copyTree(`${from}/${name}`, `${to}/${name}`);
    else if (isFile && kept.test(name)) Deno.copyFileSync(`${from}/${name}`, `${to}/${name}`);
  }
}

function editsOf({ file, from, to, also = [] }: Guard): readonly Edit[] {
  return [{ file, from, to }, ...also];
}

/** Each guard is where it is said to be. @throws {Error} that names those that are not */
export function checkGuards(root: string): void {
  const wrong = guards.filter((guard) =>
    editsOf(guard).some(({ file, from }) =>
      Deno.readTextFileSync(`${root}/${file}`).split(from).length !== 2
    )
  );
  if (wrong.length === 0) return;
  const lines = wrong.map(({ name, file }) => `${file}: ${name}`);
  throw new Error(`these guards are not found exactly once:\n${lines.join("\n")}`);
}

/** @returns undefined: it hangs */
async function search(root: string, histories: number, from = 1): Promise<Searched | undefined> {
  const args = ["run", "--no-prompt", "--ignore-env", "--no-check", "shared/up/sim_search.ts"];
  const child = new Deno.Command("deno", {
    args: [...args, "--json", `--histories=${histories}`, `--from=${from}`],
    cwd: root,
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let heardAt = performance.now();
  const timer = setInterval(() => {
    if (performance.now() - heardAt > silenceMs) child.kill("SIGKILL");
  }, 1000);
  let said = "";
  const listening = (async () => {
    // A sign of life for each history.
    for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
      heardAt = performance.now();
      said = (said + text).slice(-2000);
    }
  })();
  const [text, { signal }] = await Promise.all([
    new Response(child.stdout).text(),
    child.status,
    listening,
  ]);
  clearInterval(timer);
  if (signal !== null) return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Error(`the search says: ${text} ${said}`, { cause });
  }
}

async function tryWithout(guard: Guard, root: string, histories: number): Promise<Row> {
  const before = editsOf(guard).map(({ file, from, to }) => {
    const path = `${root}/${file}`;
    const text = Deno.readTextFileSync(path);
    Deno.writeTextFileSync(path, text.replace(from, () => to));
    return { path, text };
  });
  let result;
  try {
    result = await search(root, histories);
  } finally {
    for (const { path, text } of before.reverse()) Deno.writeTextFileSync(path, text);
  }
  if (result === undefined) return { guard, after: 0, seed: "-", what: "it hangs" };
  const { found } = result;
  if (found === undefined) return { guard, after: undefined, seed: "-", what: "" };
  const { seed, after, violations } = found;
  if ((await search(root, 1, Number(seed)))?.found !== undefined) {
    throw new Error(
      `seed ${seed} breaks a promise also with "${guard.name}": search and mend that first`,
    );
  }
  return { guard, after, seed, what: violations[0]?.replaceAll(/\s+/g, " ").slice(0, 90) ?? "" };
}

export async function prove(
  options: { readonly histories: number; readonly workers: number; readonly only: string },
): Promise<readonly Row[]> {
  checkGuards(".");
  const base = Deno.makeTempDirSync({ prefix: "gru_prove_" });
  try {
    const todo = guards.filter(({ name, file }) =>
      options.only.split("|").some((part) => `${file} ${name}`.includes(part))
    );
    const rows: Row[] = [];
    await Promise.all(Array.from({ length: options.workers }, async (_, i) => {
      const root = `${base}/${i}`;
      Deno.mkdirSync(root);
      for (const folder of folders) copyTree(folder, `${root}/${folder}`);
      for (const file of ["deno.json", "deno.lock"]) Deno.copyFileSync(file, `${root}/${file}`);
      if (i === 0 && (await search(root, 200))?.found !== undefined) {
        throw new Error("the search finds something although nothing is taken out");
      }
      for (let guard; (guard = todo.shift()) !== undefined;) {
        // One of which it is known why it is not found: only whether that still holds.
        const share = guard.open === undefined ? 1 : 0.1;
        const row = await tryWithout(guard, root, Math.ceil(options.histories * share));
        rows.push(row);
        say(line(row));
      }
    }));
    return rows;
  } finally {
    Deno.removeSync(base, { recursive: true });
  }
}

function line({ guard, after, seed, what }: Row): string {
  const { name, file } = guard;
  const found = after !== undefined
    ? `after ${after}, seed ${seed}`
    : guard.open !== undefined
    ? "not found (open)"
    : "NOT FOUND";
  return `${found.padEnd(22)} ${file.padEnd(28)} ${name} · ${what || guard.open || ""}`;
}

if (import.meta.main) {
  const histories = Number(flag("histories") ?? 2000);
  const workers = Number(flag("workers") ?? Math.min(2, navigator.hardwareConcurrency));
  const rows = await prove({ histories, workers, only: flag("only") ?? "" });
  const missed = rows.filter(({ after }) => after === undefined);
  const isNew = missed.some(({ guard }) => guard.open === undefined);
  say(
    `${
      rows.length - missed.length
    } of ${rows.length} guards are found within ${histories} histories`,
  );
  if (isNew) Deno.exit(1);
}
