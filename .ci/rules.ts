/**
 * The rules of the house on imports, as code: `deno task rules`.
 * - A program imports another's contract (or ticket's tokens, or the shapes of stat's HTTP API) and shared, and nothing
 *   else from outside its folder; only `shared/up`, which runs all programs in one process, sees their insides.
 * - Imports make no circle.
 * - Packages come by name from deno.json (a test or a benchmark may name one that only it needs), none from `jsr:`, and only
 *   spear/gateway.ts knows socket.io.
 */
import { join, normalize } from "node:path/posix";

const members = ["idgen", "stat", "spear", "ticket", "minions", "shared"];
const doors = /^@gru\/(\w+\/contract|ticket\/token|stat\/api_schemas|shared\/.+)$/;

/** One line for each rule that is broken. @param files text by path from the root */
export function violations(files: ReadonlyMap<string, string>): string[] {
  const found: string[] = [];
  const graph = new Map<string, string[]>();
  for (const [path, text] of files) {
    const targets: string[] = [];
    graph.set(path, targets);
    for (const specifier of importsOf(text)) {
      const complaint = complain(path, specifier);
      if (complaint !== undefined) found.push(`${path}: imports ${specifier}: ${complaint}`);
      const target = resolve(path, specifier);
      if (target !== undefined) targets.push(target);
    }
  }
  return [...found, ...circles(graph)];
}

function importsOf(text: string): string[] {
  const code = text.replace(/^\s*(\/\/|\*|\/\*).*$/gm, "");
  const pattern =
    /(?:^|[;\s])(?:import|export)\b[^;"'`]*?\bfrom\s*"([^"]+)"|\bimport\s*\(?\s*"([^"]+)"/g;
  return [...code.matchAll(pattern)].map((match) => match[1] ?? match[2] ?? "");
}

function complain(path: string, specifier: string): string | undefined {
  const member = path.split("/")[0] ?? "";
  if (specifier.startsWith("jsr:")) return "jsr packages cannot be had everywhere";
  if (specifier.startsWith("npm:") && !/_(test|testing|bench)\.ts$/.test(path)) {
    return "name the package in deno.json";
  }
  if (
    specifier === "socket.io" && path !== "spear/gateway.ts" && !/_(test|bench)\.ts$/.test(path)
  ) {
    return "only spear/gateway.ts knows socket.io";
  }
  if (path.startsWith("shared/up/") || path.startsWith(".ci/")) return undefined;
  if (specifier.startsWith("@gru/")) {
    if (!doors.test(specifier)) return "another program shows its contract only";
    if (member === "shared" && !specifier.startsWith("@gru/shared/")) {
      return "shared is mechanism and knows no program";
    }
  }
  if (specifier.startsWith(".") && join(path, "..", specifier).split("/")[0] !== member) {
    return "reaches into another member's folder";
  }
  return undefined;
}

function resolve(path: string, specifier: string): string | undefined {
  if (specifier.startsWith(".")) return normalize(join(path, "..", specifier));
  const [, member, file] = /^@gru\/(\w+)\/(.+)$/.exec(specifier) ?? [];
  return member === undefined ? undefined : `${member}/${file}.ts`;
}

function circles(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const found: string[] = [];
  const done = new Set<string>();
  function visit(path: string, way: readonly string[]): void {
    const at = way.indexOf(path);
    if (at >= 0) {
      found.push(`imports in a circle: ${[...way.slice(at), path].join(" → ")}`);
      return;
    }
    if (done.has(path)) return;
    for (const target of graph.get(path) ?? []) visit(target, [...way, path]);
    done.add(path);
  }
  for (const path of graph.keys()) visit(path, []);
  return found;
}

function sources(folder: string): [string, string][] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) => {
    const path = `${folder}/${name}`;
    if (isDirectory) return sources(path);
    return /\.tsx?$/.test(name) ? [[path, Deno.readTextFileSync(path)]] : [];
  });
}

if (import.meta.main) {
  const broken = violations(new Map([...members, ".ci"].flatMap(sources)));
  // deno-lint-ignore no-console
  for (const line of broken) console.error(line);
  if (broken.length > 0) Deno.exit(1);
}
