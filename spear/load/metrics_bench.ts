/**
 * What metrics, trail and the hooks of tracing cost, in two ways. A spear as it is runs beside one that counts nothing; both get
 * the same load in turn, in short slices, so that whatever else the machine does meets both. On a busy machine that is good to
 * some percent only; so what is called for a message is also timed alone, and compared with the CPU time of a message.
 */
import process from "node:process";
import { Registry } from "@gru/shared/metrics";
import { Trail } from "../hub/trail.ts";
import { SpearMetrics } from "../metrics.ts";
import { Frame } from "../packets.ts";
import type { Submission, Submit } from "../session/submit.ts";
import { groupTarget, type Target } from "../wire.ts";
import { Load } from "./load.ts";
import { median, usualLoad } from "./measures.ts";
import { type Cores, ServerUnderTest } from "./server_under_test.ts";

export const measuredTitle =
  "metrics and trail: CPU time for each delivery, with them and without, in turn";

const kinds = ["spear", "unmeasured"] as const;
type Kind = (typeof kinds)[number];

interface Scenario {
  readonly title: string;
  readonly clients: number;
  readonly groups: number;
  /** Messages. */
  readonly perSecond: number;
}

const scenarios: readonly Scenario[] = [
  {
    title: "one group of 1000 clients, 40 messages a second",
    clients: 1000,
    groups: 1,
    perSecond: 40,
  },
  {
    title: "200 groups of 20 clients, 800 messages a second",
    clients: 4000,
    groups: 200,
    perSecond: 800,
  },
];

const warmSeconds = 6;
const sliceSeconds = 1;
/** Of each of the two, in a round: the ticks of CPU time are 10 ms. */
const slices = 24;

interface Total {
  cpuSeconds: number;
  received: number;
  readonly p99Ms: number[];
}

/** Prints a line for each round, and the median of their ratios. */
export async function compareMeasured(
  { rounds, cores, print }: {
    readonly rounds: number;
    readonly cores: Cores;
    readonly print: (line: string) => void;
  },
): Promise<void> {
  print(`\n${measuredTitle}`);
  for (const scenario of scenarios) {
    print(scenario.title);
    const ratios: number[] = [];
    const perMessage: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const totals = await roundOf(scenario, cores, round);
      const cost = (kind: Kind) => totals[kind].cpuSeconds / totals[kind].received * 1e6;
      const ratio = cost("spear") / cost("unmeasured");
      ratios.push(ratio);
      perMessage.push(cost("spear") * scenario.clients / scenario.groups);
      const side = (kind: Kind) =>
        `${kind} ${cost(kind).toFixed(3)} s per million, p99 ${
          median(totals[kind].p99Ms).toFixed(1)
        } ms`;
      print(`  ${kinds.map(side).join("; ")}; ratio ${ratio.toFixed(4)}`);
    }
    print(`  median of the ratios: ${median(ratios).toFixed(4)}`);
    const alone = await microsecondsAlone(scenario.clients / scenario.groups);
    const share = 100 * alone / median(perMessage);
    print(
      `  alone: ${alone.toFixed(2)} µs of ${median(perMessage).toFixed(0)} µs for a message: ${
        share.toFixed(2)
      } %`,
    );
  }
}

async function roundOf(
  { clients, groups, perSecond }: Scenario,
  cores: Cores,
  round: number,
): Promise<Record<Kind, Total>> {
  await using stack = new AsyncDisposableStack();
  // Who starts first has another place in memory: they take turns.
  const order = round % 2 === 0 ? kinds : kinds.toReversed();
  const open = [];
  for (const kind of order) {
    const server = stack.use(await ServerUnderTest.start(kind, { core: cores.server }));
    const { load } = await Load.connect({
      ...{ ...usualLoad, firstUser: 1, targets: [server.address], core: cores.load },
      ...{ clients, groups },
    });
    open.push({ kind, server, load: stack.use(load) });
  }
  for (const { load } of open) await load.run(perSecond, warmSeconds);
  const totals: Record<Kind, Total> = { spear: nothing(), unmeasured: nothing() };
  for (let slice = 0; slice < slices; slice++) {
    for (const { kind, server, load } of slice % 2 === 0 ? open : open.toReversed()) {
      const before = await server.usage();
      const { received, p99Ms } = await load.run(perSecond, sliceSeconds);
      const total = totals[kind];
      total.cpuSeconds += (await server.usage()).cpuSeconds - before.cpuSeconds;
      total.received += received;
      total.p99Ms.push(p99Ms);
    }
  }
  return totals;
}

function nothing(): Total {
  return { cpuSeconds: 0, received: 0, p99Ms: [] };
}

const repetitions = 300_000;

/** What is called for one message that is accepted here and given to so many members. */
async function microsecondsAlone(members: number): Promise<number> {
  const metrics = new SpearMetrics(Date.now);
  metrics.open(new Registry(), {
    sessions: new Set(),
    connectionsLimit: 0,
    hub: { targets: () => new Set<Target>().values(), members: () => new Set() },
    broker: { connected: true },
    canary: undefined,
    isDraining: () => false,
  });
  const trail = new Trail({ size: 10_000, now: Date.now });
  const target = groupTarget("10");
  const text = `42["msg",{"id":"1","createTime":${Date.now()},"fromId":1}]`;
  const frame = new Frame(target, "e", 1, text);
  const position = { id: "1", epoch: "e", seq: 1 };
  const submission: Submission = { fromId: "1", type: 1, targetId: "10", content: "" };
  const plain: Submit = () => Promise.resolve(position);
  const counted = metrics.counting(plain);
  const client = () => "user 1";
  // CPU time: others may have the core meanwhile.
  const timed = async (work: () => Promise<unknown>) => {
    const before = process.cpuUsage();
    for (let i = 0; i < repetitions; i++) await work();
    const { user, system } = process.cpuUsage(before);
    return user + system;
  };
  const withHooks = async () => {
    await counted(submission);
    metrics.event("msg", 0, client);
    trail.accepted({ ...position, target, fromId: "1" });
    metrics.fannedOut(frame, members);
    trail.received(target, "e", 1, members);
  };
  const without = () => plain(submission);
  const differences = [];
  for (let i = 0; i < 5; i++) differences.push(await timed(withHooks) - await timed(without));
  return median(differences) / repetitions;
}
