/**
 * A whole cluster under load: real ZooKeeper and Redis, and every program as a process of its own, on one machine.
 * `deno task bench:cluster`, and `deno task bench:cluster --help`.
 */
import { parseArgs } from "node:util";
import { Load, type LoadOptions } from "../../spear/load.ts";
import { ClusterScene, cpuBetween, sumOf, type Usages } from "./cluster_scene.ts";

/** Clients of one spear: with what it needs for itself, within 20 000 open files. */
const clientsPerSpear = 17_000;
/** Connections of one process of the load. */
const clientsPerWorker = 18_000;

const defaults = {
  ticket: undefined,
  content: 50,
  workers: 1,
  senders: 4,
  connecting: 100,
  sources: [],
  firstUser: 1_000_000,
} as const;

interface Settings {
  /** In `many` and `storm`, in place of the case's own. */
  readonly clients: number | undefined;
  readonly seconds: number;
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

function loadOn(
  scene: ClusterScene,
  options: Pick<LoadOptions, "clients" | "groups"> & Partial<LoadOptions>,
) {
  return Load.connect({ ...defaults, targets: scene.spears, ...options });
}

const cases: Readonly<Record<string, Case>> = {
  many: {
    title:
      "many clients, with tickets, over several spears: 1000 messages a second into groups of 20",
    run: async ({ clients = 100_000, seconds }) => {
      await using scene = await ClusterScene.start({
        spears: Math.max(2, Math.ceil(clients / clientsPerSpear)),
        ticket: true,
      });
      const began = await scene.usages();
      say("the cluster is up");
      const { load, connectionsPerSecond } = await loadOn(scene, {
        clients,
        groups: clients / 20,
        ticket: scene.ticket,
        workers: Math.max(2, Math.ceil(clients / clientsPerWorker)),
        senders: 2,
        connecting: 20,
      });
      await using _load = load;
      const connected = await scene.usages();
      say("all are connected");
      await load.run(1000, 3);
      const before = await scene.usages();
      const result = await load.run(1000, seconds);
      const after = await scene.usages();
      return {
        head: ["", "", ""],
        rows: [
          ["clients", clients, ""],
          ["connections/s", connectionsPerSecond, ""],
          ["sent", result.sent, ""],
          ["accepted", result.accepted, ""],
          ["deliveries expected", result.expected, ""],
          ["deliveries", result.received, ""],
          ["connections lost", result.lost, ""],
          ["p50 ms", result.p50Ms, ""],
          ["p99 ms", result.p99Ms, ""],
          ["max ms", result.maxMs, ""],
          ["", "", ""],
          ...usageRows(began, connected, before, after),
        ],
      };
    },
  },
};

/** What each kind of process took: for connecting, for the messages, and of memory at the end. */
function usageRows(began: Usages, connected: Usages, before: Usages, after: Usages): Cell[][] {
  const connecting = cpuBetween(began, connected);
  const sending = cpuBetween(before, after);
  const memory = Object.fromEntries(
    Object.entries(after).map(([name, { memoryBytes }]) => [name, memoryBytes / 2 ** 20]),
  );
  const row = (what: string, prefix: string): Cell[] => [
    what,
    sumOf(memory, prefix),
    sumOf(connecting, prefix),
    sumOf(sending, prefix),
  ];
  const programs = ["spear", "ticket", "stat", "idgen"];
  const gru = (values: Readonly<Record<string, number>>) =>
    programs.reduce((sum, name) => sum + sumOf(values, name), 0);
  return [
    ["process", "MB resident", "CPU s connecting", "CPU s sending"],
    ...[...programs, "redis", "zookeeper"].map((name) =>
      row(name === "spear" ? "all spears" : name, name)
    ),
    ["Gru's programs together", gru(memory), gru(connecting), gru(sending)],
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
      help: { type: "boolean" },
    },
  });
  // deno-lint-ignore no-console
  const print = console.log;
  if (values.help) {
    return print([
      "  --only      cases, comma list:",
      ...Object.entries(cases).map(([name, { title }]) => `              ${name}: ${title}`),
      "  --clients   of the cases many and storm",
      "  --seconds   that many sends [60]",
    ].join("\n"));
  }
  for (const name of values.only.split(",")) {
    const test = cases[name];
    if (test === undefined) throw new TypeError(`--only: no case ${name}`);
    const { head, rows } = await test.run({
      clients: values.clients === undefined ? undefined : Number(values.clients),
      seconds: Number(values.seconds),
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
