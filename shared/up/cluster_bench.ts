/**
 * A whole cluster under load: real ZooKeeper and Redis, and every program as a process of its own, on one machine.
 * `deno task bench:cluster`, and `deno task bench:cluster --help`.
 */
import { parseArgs } from "node:util";
import type { Protocol } from "../../spear/load/line.ts";
import { Load, type LoadOptions, type LoadResult } from "../../spear/load/load.ts";
import {
  highestHeld,
  median,
  p99LimitMs,
  type Run as LoadRun,
  takingPart,
  usualLoad,
} from "../../spear/load/measures.ts";
import publishScript from "../../spear/redis/lua/publish.lua" with { type: "text" };
import {
  ClusterScene,
  cpuBetween,
  memoryBetween,
  RivalScene,
  type Scene,
  sumOf,
  type Usages,
} from "./cluster_scene.ts";

/** Clients of one spear: with what it needs for itself, within 20 000 open files. */
const clientsPerSpear = 17_000;
/** Connections of one process of the load. */
const clientsPerWorker = 18_000;

const usual = ["spear", "socket.io"] as const;
const allContestants = [...usual, "spear-unique", "centrifugo"] as const;
type Contestant = (typeof allContestants)[number];

/** Each on as many nodes, which Redis connects; spears with ids in order `strict`, or with ids that are only unique. */
function start(
  contestant: Contestant,
  nodes: number,
  { centrifugo = "", ticket = false }: { centrifugo?: string | undefined; ticket?: boolean },
): Promise<Scene> {
  switch (contestant) {
    case "spear":
      return ClusterScene.start({ spears: nodes, ticket });
    case "spear-unique":
      return ClusterScene.start({ spears: nodes, order: "unique", ticket });
    case "socket.io":
      return RivalScene.plain(nodes);
    case "centrifugo":
      return RivalScene.centrifugo(nodes, centrifugo);
  }
}

function protocolOf(contestant: Contestant): Protocol {
  return contestant === "centrifugo" ? "centrifugo" : "4";
}

interface Settings {
  /** In `many` and `storm`, in place of the case's own. */
  readonly clients: number | undefined;
  /** That `many` sends. */
  readonly seconds: number;
  /** Of `nodes` and `many`. */
  readonly contestants: readonly Contestant[];
  /** The path of its program, where it is one of them. */
  readonly centrifugo: string | undefined;
  readonly rounds: number;
}

type Cell = string | number;

interface Table {
  readonly head: readonly string[];
  readonly rows: readonly (readonly Cell[])[];
}

interface Case {
  readonly title: string;
  readonly run: (settings: Settings) => Promise<Table>;
}

type Plan = Pick<LoadOptions, "clients" | "groups"> & Partial<LoadOptions>;

const cases: Readonly<Record<string, Case>> = {
  nodes: {
    title:
      "from clients of one node to clients of another, through Redis; the others with their own way through it",
    run: async ({ rounds, centrifugo, contestants: taking }) => {
      const quiet = { clients: 200, groups: 20, perSecond: 200 };
      const busy = { clients: 4000, groups: 200, perSecond: 1000 };
      const results = new Map<string, LoadResult[]>();
      for (let round = 0; round < rounds; round++) {
        for (const name of taking) {
          await using nodes = await start(name, 2, { centrifugo });
          const [from = "", to = ""] = nodes.addresses;
          for (const [when, { perSecond, ...plan }] of Object.entries({ quiet, busy })) {
            const { load } = await Load.connect({
              ...{ ...usualLoad, ...plan, targets: [to], sendTo: [from] },
              protocol: protocolOf(name),
            });
            await using _load = load;
            await load.run(perSecond, 1);
            results.getOrInsertComputed(`${when} ${name}`, () => [])
              .push(whole(await load.run(perSecond, 5)));
          }
        }
      }
      const compared = taking.includes("socket.io");
      const keys = ["p50Ms", "p99Ms"] as const;
      return {
        head: ["", "p50 ms", "p99 ms", ...(compared ? ["p50: ratio", "p99: ratio"] : [])],
        rows: Object.entries({ quiet, busy }).flatMap(([when, { clients, groups, perSecond }]) => {
          const of = (name: string, key: typeof keys[number]) =>
            median((results.get(`${when} ${name}`) ?? []).map((result) => result[key]));
          return [
            [`${clients} clients, ${groups} groups, ${perSecond} messages/s:`],
            ...taking.map((name) => [
              `  ${name}`,
              ...keys.map((key) => of(name, key)),
              ...(compared ? keys.map((key) => of(name, key) / of("socket.io", key)) : []),
            ]),
          ];
        }),
      };
    },
  },

  through: {
    title:
      `most messages a second that one spear takes in and sends out through Redis with p99 up to ${p99LimitMs} ms`,
    run: async ({ rounds }) => {
      const ours: Held[] = [];
      const bare: number[] = [];
      for (let round = 0; round < rounds; round++) {
        await using scene = await ClusterScene.start({ spears: 1 });
        const { redis } = scene.cluster;
        const { load } = await Load.connect({
          ...{ ...usualLoad, clients: 1000, groups: 1000, senders: 16, targets: scene.addresses },
        });
        await using _load = load;
        await load.run(1000, 1);
        const best = await highestHeld(2000, (perSecond) => steady(scene, load, perSecond, 3));
        if (best === undefined) throw new Error("no rate is held");
        ours.push(best);
        bare.push(await benchmarkScript(redis.port));
      }
      const perSecond = median(ours.map(({ perSecond }) => perSecond));
      const best = ours.find((one) => one.perSecond === perSecond);
      const script = median(bare);
      return {
        head: ["", "messages/s", "ratio", "p99 ms", "CPU us a message"],
        rows: [
          [
            "a spear, in and out",
            perSecond,
            perSecond / script,
            best?.result.p99Ms ?? NaN,
            micros(best?.cpu.spear1, best?.result.sent),
          ],
          ["  Redis meanwhile", "", "", "", micros(best?.cpu.redis, best?.result.sent)],
          ["  idgen meanwhile", "", "", "", micros(best?.cpu.idgen, best?.result.sent)],
          ["the same script, redis-benchmark", script, 1, "", ""],
        ],
      };
    },
  },

  idle: {
    title:
      "nodes that do not listen: 1000 messages a second from a client of one to clients of another",
    run: async () => {
      const rows: Cell[][] = [];
      for (const spears of [2, 4, 8]) {
        await using scene = await ClusterScene.start({ spears });
        const [from = "", to = "", ...idle] = scene.addresses;
        const main: Plan = { clients: 1000, groups: 50 };
        const { load } = await Load.connect({
          ...{ ...usualLoad, ...main, targets: [to], sendTo: [from] },
        });
        await using _load = load;
        // The others have clients too, of groups that nobody writes to.
        const others = idle.length === 0 ? undefined : (await Load.connect({
          ...{ ...usualLoad, clients: 200 * idle.length, groups: 100, targets: idle },
          ...{ firstUser: 5_000_000, firstGroup: 1_000_000 },
        })).load;
        await using _others = others;
        await load.run(1000, 3);
        const { result, cpu } = await steady(scene, load, 1000, 10);
        const { spear1 = 0, spear2 = 0, redis = 0, ...rest } = cpu;
        rows.push([
          spears,
          micros(spear1, result.sent),
          micros(spear2, result.sent),
          micros(redis, result.sent),
          idle.length === 0 ? "" : sumOf(rest, "spear") / idle.length / 10 * 1000,
          result.p50Ms,
          result.p99Ms,
        ]);
      }
      return {
        head: [
          ...["nodes", "sending: CPU us", "listening: CPU us", "Redis: CPU us"],
          ...["idle: CPU ms/s", "p50 ms", "p99 ms"],
        ],
        rows,
      };
    },
  },

  growth: {
    title: "how cost grows: 1000 messages a second unless said",
    run: async () => {
      const grouped = (clients: number, spears = 2, perSecond = 1000) => ({
        clients,
        groups: clients / 20,
        spears,
        perSecond,
      });
      const steps = [
        ...[1000, 4000, 16_000, 32_000].map((clients) => grouped(clients)),
        ...[200, 20, 2].map((groups) => ({ clients: 4000, groups, spears: 2, perSecond: 100 })),
        ...[1, 2, 4, 8].map((spears) => grouped(8000, spears)),
        ...[250, 4000].map((perSecond) => grouped(4000, 2, perSecond)),
      ];
      const rows: Cell[][] = [];
      for (const { clients, groups, spears, perSecond } of steps) {
        await using scene = await ClusterScene.start({ spears });
        const before = await scene.usages();
        const { load } = await Load.connect({
          ...{ ...usualLoad, clients, groups, targets: scene.addresses },
          workers: Math.ceil(clients / clientsPerWorker),
        });
        await using _load = load;
        await load.run(perSecond, 3);
        const { result, cpu } = await steady(scene, load, perSecond, 8);
        const memory = memoryBetween(before, await scene.usages());
        rows.push([
          clients,
          clients / groups,
          spears,
          perSecond,
          result.deliveriesPerSecond,
          result.p99Ms,
          sumOf(cpu, "spear") / result.received * 1e6,
          micros(sumOf(cpu, "spear"), result.sent),
          micros(cpu.redis, result.sent),
          sumOf(memory, "spear") / clients / 1024,
        ]);
        say(`${rows.length} of ${steps.length}`);
      }
      return {
        head: [
          ...["clients", "in a group", "nodes", "messages/s", "deliveries/s", "p99 ms"],
          ...["spears: s/million", "spears: us/msg", "Redis: us/msg", "KB per client"],
        ],
        rows,
      };
    },
  },

  storm: {
    title: "all at once: tickets, connect, authenticate, subscribe; who fails tries again",
    run: async ({ clients = 15_000 }) => {
      await using scene = await ClusterScene.start({
        spears: Math.max(2, Math.ceil(clients / clientsPerSpear)),
        ticket: true,
      });
      const workers = Math.max(2, Math.ceil(clients / (clientsPerWorker / 2)));
      const began = await scene.usages();
      const connected = await Load.connect({
        ...{ ...usualLoad, clients, groups: clients / 20, ticket: scene.ticket, targets: [] },
        ...{ workers, senders: 1, connecting: Math.ceil(clients / workers), retryMs: 60_000 },
      });
      await using load = connected.load;
      const after = await scene.usages();
      const { sent, expected, received, lost } = await load.run(100, 5);
      return {
        head: [""],
        rows: [
          ["clients", clients],
          ["seconds until all are in", clients / connected.connectionsPerSecond],
          ["a second", connected.connectionsPerSecond],
          ["p50 ms of one client", connected.p50Ms],
          ["p99 ms", connected.p99Ms],
          ["max ms", connected.maxMs],
          ["attempts made again", connected.retries],
          ["then sent", sent],
          ["deliveries expected", expected],
          ["deliveries", received],
          ["connections lost", lost],
          ...Object.entries(cpuBetween(began, after)).map((
            [name, seconds],
          ): Cell[] => [`CPU s of ${name}`, seconds]),
        ],
      };
    },
  },

  many: {
    title:
      "many clients over several nodes, with tickets where there is a ticket: 1000 messages a second into groups of 20",
    run: async ({ clients = 100_000, seconds, centrifugo, contestants: taking }) => {
      const crowds: Crowd[] = [];
      for (const name of taking) crowds.push(await crowd(name, clients, seconds, centrifugo));
      const compared = crowds.length > 1;
      return {
        head: ["", ...taking, ...(compared ? ["ratio"] : [])],
        rows: [
          ...Object.keys(crowds[0]?.figures ?? {}).map((what) => {
            const [first = NaN, ...others] = crowds.map(({ figures }) => figures[what] ?? NaN);
            return [
              what,
              first,
              ...others,
              ...others.map((other) => other > 0 ? first / other : ""),
            ];
          }),
          ...crowds.flatMap(({ usage }) => [[""], ...usage]),
        ],
      };
    },
  },
};

/** What one contestant did with many clients. */
interface Crowd {
  readonly figures: Numbers;
  readonly usage: readonly (readonly Cell[])[];
}

async function crowd(
  contestant: Contestant,
  clients: number,
  seconds: number,
  centrifugo: string | undefined,
): Promise<Crowd> {
  const nodes = Math.max(2, Math.ceil(clients / clientsPerSpear));
  await using scene = await start(contestant, nodes, { centrifugo, ticket: true });
  const began = await scene.usages();
  say(`${nodes} nodes of ${contestant} are up`);
  const { load, connectionsPerSecond, retries } = await Load.connect({
    ...{ ...usualLoad, clients, groups: clients / 20 },
    ...{ ticket: scene.ticket, targets: scene.addresses },
    workers: Math.max(2, Math.ceil(clients / clientsPerWorker)),
    ...{ senders: 2, connecting: 20, retryMs: 30_000, protocol: protocolOf(contestant) },
  });
  await using _load = load;
  const connected = await scene.usages(load.pids);
  say("all are connected");
  await pause(10_000);
  const rested = await scene.usages(load.pids);
  await load.run(1000, 3);
  const before = await scene.usages(load.pids);
  const result = await load.run(1000, seconds);
  const after = await scene.usages(load.pids);
  return {
    figures: {
      clients,
      "connections/s": connectionsPerSecond,
      "attempts made again": retries,
      sent: result.sent,
      accepted: result.accepted,
      "deliveries expected": result.expected,
      deliveries: result.received,
      "connections lost": result.lost,
      "p50 ms": result.p50Ms,
      "p99 ms": result.p99Ms,
      "max ms": result.maxMs,
    },
    usage: usageRows(
      after,
      cpuBetween(began, connected),
      perSecond(cpuBetween(connected, rested), 10),
      perSecond(cpuBetween(before, after), seconds),
    ),
  };
}

/** Everything that the messages should have brought about has come, or the figures say nothing. */
function whole(result: LoadResult): LoadResult {
  if (result.received !== result.expected || result.lost > 0) {
    throw new Error(`of ${result.expected} deliveries ${result.received} have come`);
  }
  return result;
}

interface Run extends LoadRun {
  /** CPU seconds of each process meanwhile. */
  readonly cpu: Readonly<Record<string, number>>;
}

type Held = Run & { readonly perSecond: number };

async function steady(
  scene: ClusterScene,
  load: Load,
  perSecond: number,
  seconds: number,
): Promise<Run> {
  const before = await scene.usages();
  const result = await load.run(perSecond, seconds);
  return { result, cpu: cpuBetween(before, await scene.usages()) };
}

/** Calls a second of the script that spears publish with, to 1000 targets. */
async function benchmarkScript(port: number): Promise<number> {
  // redis-benchmark cannot count: the number of the publication is the time, and its random number the target.
  const script = [
    "local now = redis.call('TIME')",
    "ARGV[4] = now[1] .. string.format('%06d', now[2])",
    "local key = 'gru:{g:b' .. ARGV[16] .. '}:'",
    "KEYS[1], KEYS[2], KEYS[3] = key .. 'state', key .. 'log', key .. 'nodes'",
    // The target takes everything.
    "ARGV[16] = ''",
    publishScript,
  ].join("\n");
  const sha = await run("redis-cli", "-p", `${port}`, "script", "load", script);
  const body = JSON.stringify({ id: "1234567890123456789", content: "x".repeat(200) });
  const output = await run(
    ...["redis-benchmark", "-p", `${port}`, "-n", "300000", "-c", "16", "-P", "16"] as const,
    ...["-r", "1000", "--csv", "evalsha", sha.trim(), "3", "state", "log", "nodes"],
    ...["1234567890123456789", body, "bench", "0", "0", "epoch", "one", "1000", "300000", "600000"],
    ...["16000000", "PUBLISH", "gru:{g:b}", "gru:{g:b}:rocketmq", "some", "__rand_int__"],
  );
  return Number(/,"([\d.]+)"/.exec(output.trim().split("\n").at(-1) ?? "")?.[1] ?? NaN);
}

async function run(program: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, { args }).output();
  const text = new TextDecoder();
  if (!success) throw new Error(`${program}: ${text.decode(stderr)}`);
  return text.decode(stdout);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Microseconds for each. */
function micros(cpuSeconds = NaN, count = NaN): number {
  return cpuSeconds / count * 1e6;
}

type Numbers = Readonly<Record<string, number>>;

function perSecond(values: Numbers, seconds: number): Numbers {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, value / seconds]),
  );
}

/** Of each kind of process. */
function usageRows(
  after: Usages,
  connecting: Numbers,
  resting: Numbers,
  sending: Numbers,
): Cell[][] {
  const memory = memoryBetween({}, after);
  const own = Object.fromEntries(
    Object.entries(after).map(([name, { ownMemoryBytes }]) => [name, ownMemoryBytes]),
  );
  const row = (what: string, ...kinds: string[]): Cell[] => {
    const sum = (values: Numbers) => kinds.reduce((total, kind) => total + sumOf(values, kind), 0);
    return [
      what,
      ...[memory, own].map((values) => sum(values) / 2 ** 20),
      ...[connecting, resting, sending].map(sum),
    ];
  };
  const rowEach = (kinds: readonly string[]) =>
    kinds.filter((kind) => Object.keys(after).some((name) => name.startsWith(kind)))
      .map((kind) => row(kind, kind));
  const programs = ["spear", "ticket", "stat", "idgen", "node"];
  return [
    [
      "process",
      "MB resident",
      "MB, shared once",
      "CPU s connecting",
      "CPU/s resting",
      "CPU/s sending",
    ],
    ...rowEach(programs),
    row("together", ...programs),
    ...rowEach(["redis", "zookeeper", "load"]),
  ];
}

function say(text: string): void {
  // deno-lint-ignore no-console
  console.error(`${(performance.now() / 1000).toFixed(0).padStart(4)} s  ${text}`);
}

function show(cell: Cell): string {
  if (typeof cell === "string") return cell;
  if (Number.isInteger(cell) || cell >= 100) {
    return Math.round(cell).toLocaleString("en").replaceAll(",", " ");
  }
  return cell.toFixed(2);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: "string", default: Object.keys(cases).join(",") },
      clients: { type: "string" },
      seconds: { type: "string", default: "60" },
      rounds: { type: "string", default: "3" },
      contestants: { type: "string" },
      centrifugo: { type: "string" },
      help: { type: "boolean" },
    },
  });
  // deno-lint-ignore no-console
  const print = console.log;
  if (values.help) {
    return print([
      "  --only         cases, comma list:",
      ...Object.entries(cases).map(([name, { title }]) => `                 ${name}: ${title}`),
      "  --clients      of the cases many and storm",
      "  --seconds      that many sends [60]",
      "  --rounds       of nodes and through; the median counts [3]",
      `  --contestants  of nodes and many, comma list of ${allContestants.join(", ")} [${
        usual.join(",")
      }]`,
      "  --centrifugo   the path of the program of Centrifugo 6, which is then a contestant",
    ].join("\n"));
  }
  const { centrifugo } = values;
  const taking = takingPart(values, usual, allContestants);
  for (const name of values.only.split(",")) {
    const test = cases[name];
    if (test === undefined) throw new TypeError(`--only: no case ${name}`);
    const { head, rows } = await test.run({
      clients: values.clients === undefined ? undefined : Number(values.clients),
      seconds: Number(values.seconds),
      rounds: Number(values.rounds),
      contestants: taking,
      centrifugo,
    });
    print(`\n${test.title}`);
    for (const row of head.every((cell) => cell === "") ? rows : [head, ...rows]) {
      print(
        row.map((cell, i) => i === 0 ? show(cell).padEnd(26) : show(cell).padStart(18)).join(""),
      );
    }
  }
}

if (import.meta.main) await main();
