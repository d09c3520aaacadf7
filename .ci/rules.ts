/**
 * The rules of the house on imports, as code: `deno task rules`. `shared/docs/architecture.md` draws them.
 * - A program imports another program's contract and shared, and nothing else from outside its folder. Only `shared/up`, which
 *   runs all programs in one process, sees their insides.
 * - A room (a folder of spear or shared) shows its doors to the other rooms; the files at the top of spear and shared, which put
 *   the rooms together, see all of them. Tests see everything of their own program.
 * - Imports make no circle, neither between files nor between rooms. Types count, too.
 * - Packages come by name from deno.json, none from `jsr:`; a package with insides that move lives in one room; and no program
 *   loads one that only tests need.
 * - deno.lock names the packages of deno.json and no others: a first start of anything downloads all of them.
 */
import { join, normalize } from "node:path/posix";

const members = ["idgen", "stat", "spear", "ticket", "minions", "shared"];
const contracts =
  /^@gru\/(client|server|\w+\/contract|ticket\/token|spear\/identifiers|stat\/api_schemas|client\/gru\.js|client\/react|shared\/.+)$/;

/** What the other rooms may import of each room. */
const doors: Readonly<Record<string, readonly string[]>> = {
  "spear/broker": ["broker", "rate"],
  "spear/redis": ["store", "subscriptions"],
  "spear/rocketmq": [],
  "spear/presence": ["presence", "roster", "group_users", "group_places"],
  "spear/hub": ["hub", "listeners", "recovery", "history_read", "trail", "canary"],
  "spear/session": ["session", "context", "used_tokens"],
  "spear/socket": [],
  "spear/load": [],
  "spear/client": [],
  "stat/client": ["mod", "events", "token1"],
  "stat/hooks": ["event"],
  "shared/http": ["serve", "body"],
  "shared/registry": ["registry", "orderly_stop"],
  "shared/zookeeper": ["registry"],
  "shared/redis": [
    "address",
    "link",
    "topology",
    "cluster",
    "scripts",
    "shard_list",
    "move_shards",
  ],
  "shared/webhooks": [
    "address",
    "ask",
    "decisions",
    "metrics",
    "post",
    "post_fetch",
    "replays",
    "receiver",
    "signature",
    "breaker",
  ],
  "shared/rpc": ["client", "contract", "options", "server", "local", "proof"],
};

/** Where a package is known; tests, benchmarks and the simulation may use it, too. */
const homes: readonly [package_: RegExp, rooms: readonly string[]][] = [
  [/^(socket\.io|engine\.io|ws|socket\.io-parser)$/, ["spear/socket"]],
  [/^ioredis$/, ["shared/redis", "spear/redis", "spear/rocketmq", "stat"]],
  [/^node-zookeeper-client$/, ["shared/zookeeper"]],
  [/^rocketmq-client-nodejs\b/, ["spear/rocketmq"]],
  [/^node:(http2?|https)$/, ["shared/http", "shared/rpc", "shared/webhooks", "spear/socket"]],
  [/^node:tls$/, ["shared/http", "shared/rpc", "spear/socket", "spear/rocketmq"]],
];
/** What no `main.ts` may load, by whatever way. The executables leave it out. */
const testPackages = /^(fast-check|luaparse|socket\.io-client-\d|@socket\.io\/redis-adapter)$/;
const forTests =
  /(^|[_/])(test|testing\w*|bench|conformance|simulation|fixture|scene|holder)\.ts$|\/(load|testing|up|docs)\/|^\.ci\//;

/** One line for each rule that is broken. @param files text by path from the root */
export function violations(files: ReadonlyMap<string, string>): string[] {
  const found: string[] = [];
  const graph = new Map<string, string[]>();
  const packages = new Map<string, string[]>();
  for (const [path, text] of files) {
    const targets: string[] = [];
    graph.set(path, targets);
    const specifiers = importsOf(text);
    packages.set(path, specifiers.filter((specifier) => testPackages.test(specifier)));
    for (const specifier of specifiers) {
      const complaint = complain(path, specifier);
      if (complaint !== undefined) found.push(`${path}: imports ${specifier}: ${complaint}`);
      const target = resolve(path, specifier);
      if (target !== undefined) targets.push(target);
    }
  }
  return [
    ...found,
    ...reachedFrom([...graph.keys()].filter((path) => path.endsWith("/main.ts")), graph).flatMap(
      (path) =>
        (packages.get(path) ?? []).map((name) => `${path}: imports ${name}: only tests may`),
    ),
    ...circles(graph),
    ...circles(rooms(graph)),
  ];
}

/** One line for each package that deno.lock has and deno.json has not. @param lock, config the texts of both */
export function unnamedPackages(lock: string, config: string): string[] {
  const named = Object.values<string>(JSON.parse(config).imports)
    .map((specifier) => specifier.replace(/^npm:\/?(.+?)\/?$/, "npm:$1"));
  return Object.keys(JSON.parse(lock).specifiers)
    .filter((specifier) => !named.includes(specifier) && !specifier.startsWith("npm:@types/"))
    .map((specifier) =>
      `deno.lock: ${specifier}: deno.json does not name it, and every first start would download it; ` +
      "what only few tests need comes by requireFrom of shared/testing/packages.ts"
    );
}

function reachedFrom(
  starts: readonly string[],
  graph: ReadonlyMap<string, readonly string[]>,
): string[] {
  const reached = new Set(starts);
  for (const path of reached) {
    for (const target of graph.get(path) ?? []) reached.add(target);
  }
  return [...reached];
}

/** Between the rooms of one member, without their tests. */
function rooms(graph: ReadonlyMap<string, readonly string[]>): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const [path, targets] of graph) {
    const room = roomOf(path);
    if (room === undefined || forTests.test(path)) continue;
    const others = targets.map(roomOf).filter((other) => other !== undefined && other !== room);
    found.set(room, [...found.get(room) ?? [], ...others as string[]]);
  }
  return found;
}

/** `spear/hub` of `spear/hub/hub.ts`; undefined for a file that is in no room. */
function roomOf(path: string): string | undefined {
  const room = path.split("/").slice(0, 2).join("/");
  return room in doors && path !== room ? room : undefined;
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
  if (specifier.startsWith("npm:")) return "name the package in deno.json";
  const home = homes.find(([package_]) => package_.test(specifier))?.[1];
  if (
    home !== undefined && !forTests.test(path) && !home.some((room) => path.startsWith(`${room}/`))
  ) {
    return `only ${home.join(", ")} knows it`;
  }
  if (path.startsWith("shared/up/") || path.startsWith(".ci/")) return undefined;
  if (specifier.startsWith("@gru/")) {
    if (!contracts.test(specifier)) return "another program shows its contract only";
    if (member === "shared" && !specifier.startsWith("@gru/shared/")) {
      return "shared is mechanism and knows no program";
    }
  }
  if (specifier.startsWith(".") && join(path, "..", specifier).split("/")[0] !== member) {
    return "reaches into another member's folder";
  }
  const [room, other] = [roomOf(path), roomOf(resolve(path, specifier) ?? "")];
  if (room === undefined || other === undefined || room === other || forTests.test(path)) {
    return undefined;
  }
  const file = resolve(path, specifier)?.slice(other.length + 1, -".ts".length) ?? "";
  return doors[other]?.includes(file) ? undefined : `no door of ${other}`;
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
  const broken = [
    ...violations(new Map([...members, ".ci"].flatMap(sources))),
    ...unnamedPackages(Deno.readTextFileSync("deno.lock"), Deno.readTextFileSync("deno.json")),
  ];
  // deno-lint-ignore no-console
  for (const line of broken) console.error(line);
  if (broken.length > 0) Deno.exit(1);
}
