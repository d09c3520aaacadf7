/**
 * A spear compared with plain socket.io and bare `ws` on the same Deno, and with Centrifugo where its program is given, all with the
 * same clients: `deno task bench:spear`, and `deno task bench:spear --help`. The server has one core and the load the other, if
 * `taskset` is installed. All contestants run in turn in every round; the tables show medians.
 */
import { parseArgs } from "node:util";
import { beyondTheKnee, keptUpMs } from "./beyond.ts";
import { Load, type LoadOptions } from "./load.ts";
import { highestHeld, median, p99LimitMs, takingPart, usualLoad } from "./measures.ts";
import { compareMeasured, measuredTitle } from "./metrics_bench.ts";
import { pause } from "@gru/shared/pause";
import {
  type Cores,
  isCentrifugo,
  type ServerOptions,
  ServerUnderTest,
} from "./server_under_test.ts";

const usual = ["spear", "socket.io", "ws"] as const;
const contestants = [...usual, "centrifugo", "centrifugo-history"] as const;
type Contestant = (typeof contestants)[number];

interface Setting extends Pick<ServerOptions, "centrifugo"> {
  readonly cores: Cores;
}

interface Scene extends AsyncDisposable {
  readonly server: ServerUnderTest;
  readonly load: Load;
  readonly connectionsPerSecond: number;
  readonly memoryBefore: number;
}

async function scene(
  contestant: Contestant,
  { cores, centrifugo }: Setting,
  options: Pick<LoadOptions, "clients" | "groups"> & Partial<LoadOptions>,
): Promise<Scene> {
  await using stack = new AsyncDisposableStack();
  const server = stack.use(
    await ServerUnderTest.start(contestant, { core: cores.server, centrifugo }),
  );
  await pause(500);
  const memoryBefore = (await server.usage()).memoryBytes;
  const { load, connectionsPerSecond } = await Load.connect({
    ...usualLoad,
    firstUser: 1,
    targets: [server.address],
    core: cores.load,
    protocol: isCentrifugo(contestant) ? "centrifugo" : "4",
    ...options,
  });
  stack.use(load);
  const opened = stack.move();
  return {
    server,
    load,
    connectionsPerSecond,
    memoryBefore,
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

/** The figures of one contestant in one round of one case, by column. */
type Row = Readonly<Record<string, number>>;

async function highestRate({ load, server }: Scene, from: number): Promise<Row> {
  const best = await highestHeld(from, async (perSecond) => {
    const before = await server.usage();
    const result = await load.run(perSecond, 2);
    return { result, cpuSeconds: (await server.usage()).cpuSeconds - before.cpuSeconds };
  });
  return {
    "deliveries/s": best?.result.deliveriesPerSecond ?? 0,
    "p50 ms": best?.result.p50Ms ?? NaN,
    "p99 ms": best?.result.p99Ms ?? NaN,
    "CPU s per million": best === undefined ? NaN : best.cpuSeconds / best.result.received * 1e6,
  };
}

async function fixedRate({ load }: Scene, perSecond: number, seconds: number): Promise<Row> {
  const result = await load.run(perSecond, seconds);
  return {
    "p50 ms": result.p50Ms,
    "p99 ms": result.p99Ms,
    "deliveries/s": result.deliveriesPerSecond,
  };
}

interface Case {
  readonly title: string;
  /** The column whose ratio to plain socket.io is shown. */
  readonly ratioOf: string;
  readonly run: (contestant: Contestant, setting: Setting) => Promise<Row>;
}

/** Half of what plain socket.io takes or less: nobody has to wait for anybody. */
function partLoad(clients: number, size: number, perSecond: number): Case {
  return {
    title: `part load: ${clients / size} groups of ${size} clients, ${perSecond} messages a second`,
    ratioOf: "p99 ms",
    run: async (contestant, setting) => {
      await using open = await scene(contestant, setting, { clients, groups: clients / size });
      await open.load.run(perSecond, 5);
      return await fixedRate(open, perSecond, 10);
    },
  };
}

function beyond(
  title: string,
  { clients, groups, from }: Record<"clients" | "groups" | "from", number>,
): Case {
  return {
    title: `${title}: the highest rate with p99 up to ${keptUpMs} ms, and beyond it`,
    ratioOf: "2: of highest",
    run: async (contestant, setting) => {
      // Many, as clients are: one that sends everything would be ended for it.
      await using open = await scene(contestant, setting, { clients, groups, senders: 100 });
      await open.load.run(from, 2);
      return await beyondTheKnee(open.load, from);
    },
  };
}

const cases: Readonly<Record<string, Case>> = {
  group: {
    title: `one group of 1000 clients: most deliveries a second with p99 up to ${p99LimitMs} ms`,
    ratioOf: "deliveries/s",
    run: async (contestant, setting) => {
      await using open = await scene(contestant, setting, { clients: 1000, groups: 1 });
      await open.load.run(50, 1);
      return await highestRate(open, 50);
    },
  },
  groups: {
    title: "200 groups of 20 clients: 10 000 messages a second",
    ratioOf: "p99 ms",
    run: async (contestant, setting) => {
      await using open = await scene(contestant, setting, { clients: 4000, groups: 200 });
      // First at the same rate, so that the code is compiled and the heap has its size; long enough for several garbage
      // collections.
      await open.load.run(10_000, 5);
      return await fixedRate(open, 10_000, 20);
    },
  },
  groupsMost: {
    title: `200 groups of 20 clients: most deliveries a second with p99 up to ${p99LimitMs} ms`,
    ratioOf: "deliveries/s",
    run: async (contestant, setting) => {
      await using open = await scene(contestant, setting, { clients: 4000, groups: 200 });
      await open.load.run(1000, 1);
      return await highestRate(open, 1000);
    },
  },
  beyond: beyond("one group of 1000 clients", { clients: 1000, groups: 1, from: 500 }),
  beyondGroups: beyond("200 groups of 20 clients", { clients: 4000, groups: 200, from: 1000 }),
  pairs: partLoad(400, 2, 4000),
  part: partLoad(4000, 20, 1000),
  half: partLoad(4000, 20, 2000),
  rooms: partLoad(4000, 200, 200),
  quiet: {
    title: "quiet: 200 clients in groups of 10, 200 messages a second",
    ratioOf: "p50 ms",
    run: async (contestant, setting) => {
      await using open = await scene(contestant, setting, { clients: 200, groups: 20 });
      // Until the garbage of connecting is collected.
      await open.load.run(200, 8);
      return await fixedRate(open, 200, 15);
    },
  },
  connecting: {
    title: "4000 clients connect, authenticate and subscribe",
    ratioOf: "connections/s",
    run: async (contestant, setting) => {
      await using open = await scene(contestant, setting, { clients: 4000, groups: 200 });
      return { "connections/s": open.connectionsPerSecond };
    },
  },
  memory: {
    title: "18 000 clients in groups of 20, all idle: resident memory of the server",
    ratioOf: "KB per client",
    run: async (contestant, setting) => {
      const clients = 18_000;
      await using open = await scene(contestant, setting, { clients, groups: 900, senders: 1 });
      // Until the garbage of connecting is gone: V8 collects it when little has happened for 38 s.
      await pause(60_000);
      const { memoryBytes } = await open.server.usage();
      return {
        "KB per client": (memoryBytes - open.memoryBefore) / clients / 1024,
        "MB in all": memoryBytes / 2 ** 20,
        "connections/s": open.connectionsPerSecond,
      };
    },
  },
};

function show(value: number): string {
  return value >= 100
    ? Math.round(value).toLocaleString("en").replaceAll(",", " ")
    : value.toFixed(2);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: "string", default: [...Object.keys(cases), "metrics"].join(",") },
      contestants: { type: "string" },
      centrifugo: { type: "string" },
      rounds: { type: "string", default: "3" },
      pin: { type: "string", default: Deno.build.os === "linux" ? "0,1" : "" },
      help: { type: "boolean" },
    },
  });
  // deno-lint-ignore no-console
  const print = console.log;
  if (values.help) {
    return print([
      "  --only         cases, comma list:",
      ...Object.entries(cases).map(([name, { title }]) => `                 ${name}: ${title}`),
      `                 metrics: ${measuredTitle}`,
      `  --contestants  comma list of ${contestants.join(", ")} [${usual.join(",")}]`,
      "  --centrifugo   the path of the program of Centrifugo 6, which is then a contestant; centrifugo-history keeps messages (Linux)",
      "  --rounds       [3]",
      "  --pin          the core of the server, the core of the load; empty: any (Linux, taskset) [0,1]",
    ].join("\n"));
  }
  const [server, load] = values.pin === "" ? [] : values.pin.split(",").map(Number);
  const { centrifugo } = values;
  const taking = takingPart(values, usual, contestants);
  for (const name of values.only.split(",")) {
    if (name === "metrics") {
      await compareMeasured({ rounds: Number(values.rounds), cores: { server, load }, print });
      continue;
    }
    const test = cases[name];
    if (test === undefined) throw new TypeError(`--only: no case ${name}`);
    const rows = new Map<Contestant, Row[]>(taking.map((contestant) => [contestant, []]));
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const contestant of taking) {
        rows.get(contestant)?.push(
          await test.run(contestant, { cores: { server, load }, centrifugo }),
        );
      }
    }
    print(`\n${test.title}`);
    const compared = taking.includes("socket.io");
    const columns = Object.keys(rows.values().next().value?.[0] ?? {});
    const of = (contestant: Contestant, column: string) =>
      median((rows.get(contestant) ?? []).map((row) => row[column] ?? NaN));
    print([
      "".padEnd(20),
      ...columns.map((column) => column.padStart(18)),
      ...(compared ? [`${test.ratioOf}: ratio`.padStart(24)] : []),
    ].join(""));
    for (const contestant of taking) {
      const ratio = of(contestant, test.ratioOf) / of("socket.io", test.ratioOf);
      print([
        contestant.padEnd(20),
        ...columns.map((column) => show(of(contestant, column)).padStart(18)),
        ...(compared ? [`${ratio.toFixed(2)} x`.padStart(24)] : []),
      ].join(""));
    }
  }
}

await main();
