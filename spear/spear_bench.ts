/**
 * A spear beside plain socket.io and bare `ws` on the same Deno, each with the same clients doing the same: `deno task bench:spear`,
 * and `deno task bench:spear --help`. The server has one core and the load the other, where `taskset` is installed. All take turns in
 * every round; the tables show medians.
 */
import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { freePort } from "@gru/shared/testing";
import { Server } from "socket.io";
import { WebSocket, WebSocketServer } from "ws";
import { Load, type LoadOptions, type LoadResult } from "./load.ts";

const contestants = ["spear", "socket.io", "ws"] as const;
type Contestant = (typeof contestants)[number];

/** A p99 beyond it means that the rate is not held. */
const p99LimitMs = 50;

// deno-lint-ignore no-explicit-any
type Json = any;

/** What a client gets, as a spear has it, as far as these servers know it. */
function messageOf(event: Json, seq: number) {
  const createTime = Date.now();
  return {
    id: String(7_000_000_000_000_000_000n + BigInt(seq)),
    createTime,
    fromId: 1,
    msgType: event.type,
    target: { id: event.target.id, type: -1 },
    content: event.content,
    expireTime: createTime + 300_000,
    seq,
    epoch: "01234567-0123",
  };
}

/** What one would write without Gru: rooms and a broadcast. */
function servePlain(port: number): void {
  const http = createServer();
  const io = new Server(http, { serveClient: false });
  let seq = 0;
  io.on("connection", (socket) => {
    socket.on("auth", (_event: Json, reply: (result: Json) => void) => reply({ success: true }));
    socket.on("subscribe", (event: Json, reply: (result: Json) => void) => {
      for (const { id } of event.subscribeGroups) socket.join(String(id));
      reply({ success: true });
    });
    socket.on("msg", (event: Json, reply: (result: Json) => void) => {
      const message = messageOf(event, ++seq);
      io.to(String(event.target.id)).emit("msg", message);
      reply({ success: true, id: message.id, seq });
    });
  });
  http.listen(port, "127.0.0.1");
}

/** No more than these clients need of the protocols above WebSocket, and no check of anything. */
function serveWs(port: number): void {
  const groups = new Map<string, Set<WebSocket>>();
  const server = new WebSocketServer({ port, host: "127.0.0.1" });
  let seq = 0;
  server.on("connection", (socket: WebSocket) => {
    socket.send('0{"sid":"1"}');
    socket.on("message", (data: Uint8Array) => {
      const text = data.toString();
      if (text === "40") return socket.send('40{"sid":"1"}');
      const [, ack, rest = "[]"] = /^42(\d+)(.*)$/s.exec(text) ?? [];
      const [name, event] = JSON.parse(rest);
      let result: Json = { success: true };
      if (name === "subscribe") {
        for (const { id } of event.subscribeGroups) {
          groups.getOrInsertComputed(String(id), () => new Set()).add(socket);
        }
      } else if (name === "msg") {
        const message = messageOf(event, ++seq);
        const bytes = new TextEncoder().encode(`42${JSON.stringify(["msg", message])}`);
        for (const member of groups.get(String(event.target.id)) ?? []) {
          member.send(bytes, { binary: false });
        }
        result = { success: true, id: message.id, seq };
      }
      socket.send(`43${ack}${JSON.stringify([result])}`);
    });
  });
}

interface Cores {
  readonly server: number | undefined;
  readonly load: number | undefined;
}

class ServerUnderTest implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly address: string;

  constructor(contestant: Contestant, core: number | undefined) {
    const port = freePort();
    const [deno = "", ...words]: string[] = JSON.parse(Deno.readTextFileSync("deno.json")).tasks
      .spear.split(" ");
    const limits = ["connections", "messagesPerSecond", "connectionsPerUser"];
    const spear = [
      ...words,
      ...[
        "--mode",
        "single",
        "--port",
        String(port),
        "--monitorPort",
        String(freePort()),
        "--drainMs",
        "0",
        "--log.level",
        "error",
      ],
      ...limits.map((limit) => `--limits.${limit}=1000000`),
    ];
    const other = ["run", "--no-prompt", "--allow-net", "--allow-env", import.meta.filename ?? ""];
    const args = contestant === "spear" ? spear : [...other, "--serve", contestant, String(port)];
    const pinned = core === undefined ? [deno] : ["taskset", "-c", String(core), deno];
    const [program = "", ...before] = pinned;
    this.#child = new Deno.Command(program, { args: [...before, ...args], stdin: "null" }).spawn();
    this.address = `http://127.0.0.1:${port}`;
  }

  static async start(contestant: Contestant, core: number | undefined): Promise<ServerUnderTest> {
    const server = new ServerUnderTest(contestant, core);
    const { hostname, port } = new URL(server.address);
    for (let attempt = 0;; attempt++) {
      try {
        (await Deno.connect({ hostname, port: Number(port) })).close();
        return server;
      } catch (error) {
        if (attempt === 600) throw error;
        await pause(50);
      }
    }
  }

  /** Resident, and the time of all its threads since its start. Linux, with its 100 ticks a second. */
  async usage(): Promise<{ memoryBytes: number; cpuSeconds: number }> {
    const paths = ["status", "stat"].map((name) => `/proc/${this.#child.pid}/${name}`);
    // Deno shows a process's folder in /proc only to who may do everything.
    const { stdout } = await new Deno.Command("cat", { args: paths }).output();
    const text = new TextDecoder().decode(stdout);
    const ticks = text.slice(text.lastIndexOf(") ")).split(" ").map(Number);
    return {
      memoryBytes: Number(/VmRSS:\s+(\d+)/.exec(text)?.[1] ?? NaN) * 1024,
      cpuSeconds: ((ticks[12] ?? NaN) + (ticks[13] ?? NaN)) / 100,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.status;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

interface Scene extends AsyncDisposable {
  readonly server: ServerUnderTest;
  readonly load: Load;
  readonly connectionsPerSecond: number;
  readonly memoryBefore: number;
}

async function scene(
  contestant: Contestant,
  cores: Cores,
  options: Pick<LoadOptions, "clients" | "groups"> & Partial<LoadOptions>,
): Promise<Scene> {
  await using stack = new AsyncDisposableStack();
  const server = stack.use(await ServerUnderTest.start(contestant, cores.server));
  await pause(500);
  const memoryBefore = (await server.usage()).memoryBytes;
  const { load, connectionsPerSecond } = await Load.connect({
    targets: [server.address],
    ticket: undefined,
    content: 50,
    workers: 1,
    senders: 4,
    connecting: 100,
    sources: [],
    firstUser: 1,
    core: cores.load,
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

/** What one contestant did in one round of one case, by column. */
type Row = Readonly<Record<string, number>>;

function held(result: LoadResult, perSecond: number): boolean {
  return result.p99Ms <= p99LimitMs && result.received === result.expected && result.lost === 0 &&
    result.sentPerSecond > perSecond * 0.95;
}

/** The highest rate that is held, by doubling and then halving the distance. */
async function highestRate({ load, server }: Scene, from: number): Promise<Row> {
  let best: LoadResult | undefined;
  let cpuPerMillion = NaN;
  let good = 0;
  let bad = Infinity;
  for (let rate = from; bad / good > 1.1 && rate > 1;) {
    const cpuBefore = (await server.usage()).cpuSeconds;
    const result = await load.run(rate, 2);
    if (held(result, rate)) {
      good = rate;
      best = result;
      cpuPerMillion = ((await server.usage()).cpuSeconds - cpuBefore) / result.received * 1e6;
    } else {
      bad = rate;
    }
    rate = bad === Infinity ? rate * 2 : good === 0 ? bad / 2 : Math.sqrt(good * bad);
  }
  return {
    "deliveries/s": best?.deliveriesPerSecond ?? 0,
    "p50 ms": best?.p50Ms ?? NaN,
    "p99 ms": best?.p99Ms ?? NaN,
    "CPU s per million": cpuPerMillion,
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
  readonly run: (contestant: Contestant, cores: Cores) => Promise<Row>;
}

const cases: Readonly<Record<string, Case>> = {
  group: {
    title: `one group of 1000 clients: most deliveries a second with p99 up to ${p99LimitMs} ms`,
    ratioOf: "deliveries/s",
    run: async (contestant, cores) => {
      await using open = await scene(contestant, cores, { clients: 1000, groups: 1 });
      await open.load.run(50, 1);
      return await highestRate(open, 50);
    },
  },
  groups: {
    title: "200 groups of 20 clients: 10 000 messages a second",
    ratioOf: "p99 ms",
    run: async (contestant, cores) => {
      await using open = await scene(contestant, cores, { clients: 4000, groups: 200 });
      // At its rate, so that the code is compiled and the heap has the size for it.
      await open.load.run(10_000, 2);
      return await fixedRate(open, 10_000, 5);
    },
  },
  groupsMost: {
    title: `200 groups of 20 clients: most deliveries a second with p99 up to ${p99LimitMs} ms`,
    ratioOf: "deliveries/s",
    run: async (contestant, cores) => {
      await using open = await scene(contestant, cores, { clients: 4000, groups: 200 });
      await open.load.run(1000, 1);
      return await highestRate(open, 1000);
    },
  },
  quiet: {
    title: "quiet: 200 clients in groups of 10, 200 messages a second",
    ratioOf: "p50 ms",
    run: async (contestant, cores) => {
      await using open = await scene(contestant, cores, { clients: 200, groups: 20 });
      await open.load.run(200, 1);
      return await fixedRate(open, 200, 5);
    },
  },
  connecting: {
    title: "4000 clients connect, authenticate and subscribe",
    ratioOf: "connections/s",
    run: async (contestant, cores) => {
      await using open = await scene(contestant, cores, { clients: 4000, groups: 200 });
      return { "connections/s": open.connectionsPerSecond };
    },
  },
  memory: {
    title: "18 000 clients in groups of 20, all idle: resident memory of the server",
    ratioOf: "KB per client",
    run: async (contestant, cores) => {
      const clients = 18_000;
      await using open = await scene(contestant, cores, { clients, groups: 900, senders: 1 });
      // Until the garbage of connecting is gone: V8 looks for it when little has happened for 38 s.
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

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;
}

function show(value: number): string {
  return value >= 100
    ? Math.round(value).toLocaleString("en").replaceAll(",", " ")
    : value.toFixed(2);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: "string", default: Object.keys(cases).join(",") },
      contestants: { type: "string", default: contestants.join(",") },
      rounds: { type: "string", default: "3" },
      pin: { type: "string", default: Deno.build.os === "linux" ? "0,1" : "" },
      serve: { type: "string" },
      help: { type: "boolean" },
    },
    allowPositionals: true,
  });
  // deno-lint-ignore no-console
  const print = console.log;
  if (values.help) {
    return print([
      "  --only         cases, comma list:",
      ...Object.entries(cases).map(([name, { title }]) => `                 ${name}: ${title}`),
      `  --contestants  comma list [${contestants.join(",")}]`,
      "  --rounds       [3]",
      "  --pin          the core of the server, the core of the load; empty: any (Linux, taskset) [0,1]",
    ].join("\n"));
  }
  const [server, load] = values.pin === "" ? [] : values.pin.split(",").map(Number);
  const taking = contestants.filter((name) => values.contestants.split(",").includes(name));
  for (const name of values.only.split(",")) {
    const test = cases[name];
    if (test === undefined) throw new TypeError(`--only: no case ${name}`);
    const rows = new Map<Contestant, Row[]>(taking.map((contestant) => [contestant, []]));
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const contestant of taking) {
        rows.get(contestant)?.push(await test.run(contestant, { server, load }));
      }
    }
    print(`\n${test.title}`);
    const columns = Object.keys(rows.values().next().value?.[0] ?? {});
    const of = (contestant: Contestant, column: string) =>
      median((rows.get(contestant) ?? []).map((row) => row[column] ?? NaN));
    print([
      "".padEnd(12),
      ...columns.map((column) => column.padStart(18)),
      `${test.ratioOf}: ratio`.padStart(24),
    ].join(""));
    for (const contestant of taking) {
      const ratio = of(contestant, test.ratioOf) / of("socket.io", test.ratioOf);
      print([
        contestant.padEnd(12),
        ...columns.map((column) => show(of(contestant, column)).padStart(18)),
        `${ratio.toFixed(2)} x`.padStart(24),
      ].join(""));
    }
  }
}

if (import.meta.main) {
  const [serve, what, port] = Deno.args;
  if (serve === "--serve") (what === "ws" ? serveWs : servePlain)(Number(port));
  else await main();
}
