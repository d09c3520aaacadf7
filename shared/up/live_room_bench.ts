/**
 * A live room in a flood: a whole cluster as processes over real ZooKeeper and Redis, one group of a kind with a rate and
 * `drop`, and members that all send. Run it by hand: `deno task bench:room`, and `deno task bench:room --help`.
 */
import type { Buffer } from "node:buffer";
import { parseArgs } from "node:util";
import { pause } from "@gru/shared/pause";
import { freePort, ServerProcess, taskArguments, waitFor } from "@gru/shared/testing/harness";
import { LatencyCounts } from "../../spear/load/latency.ts";
import { usageOf } from "../../spear/load/measures.ts";
import { RawClient } from "../../spear/load/raw_client.ts";
import { TestCluster } from "./processes.ts";

// deno-lint-ignore no-console
const say = console.log;

const flags = {
  members: ["5000", "connections in the room, over all spears"],
  spears: ["1", "nodes"],
  rate: ["40", "messagesPerSecond of the room"],
  sent: ["4000", "messages that members send each second, one in 200 normal, the others low"],
  seconds: ["10", "how long they send"],
  batch: ["25", "batchDelayMs of the spears"],
} as const satisfies Record<string, readonly [fallback: string, text: string]>;

const group = "live:1";
const priorities = ["low", "normal"] as const;
type Priority = typeof priorities[number];
/** `@` stands behind the priority in a content, and before the time: the last letter of `low` says which one. */
const mark = 64;
const lastOfLow = 119;
/** Of one delivery of so many it is looked at when it was sent. */
const timedEach = 37;
/** One message of so many is normal: fewer a second than the room takes. */
const normalEach = 200;
const connectingAtOnce = 100;
/** How long is waited for what is still on its way. */
const quietMs = 3000;

/** What is counted of messages with one priority. */
class Tally {
  sent = 0;
  accepted = 0;
  dropped = 0;
  refused = 0;
  received = 0;
}

class Room {
  readonly tallies: Readonly<Record<Priority, Tally>> = { low: new Tally(), normal: new Tally() };
  readonly members: RawClient[] = [];
  latencies = new LatencyCounts();
  #received = 0;
  /** The first of them. */
  refusal: string | undefined;

  async enter(address: string, user: number): Promise<void> {
    const { hostname, port } = new URL(address);
    const entered = Promise.withResolvers<void>();
    const client = await RawClient.connect({
      ...{ host: hostname, port: Number(port) },
      onBytes: (data, start, end) => this.#receive(data, start, end, entered),
    });
    const auth = { id: user, name: `${user}`, appType: "load" };
    client.send(`20["auth",${JSON.stringify(auth)}]`);
    client.send(
      `21["subscribe",{"userId":${user},"subscribeGroups":[{"id":"${group}"}]}]`,
    );
    await entered.promise;
    this.members.push(client);
  }

  send(n: number): void {
    const priority = n % normalEach === 0 ? "normal" : "low";
    const content = `${priority}@${now().toFixed(2)}`;
    const argument = { type: 1, target: { id: group }, content, priority };
    const ack = 2 + priorities.indexOf(priority);
    this.members[n % this.members.length]?.send(`2${ack}["msg",${JSON.stringify(argument)}]`);
    this.tallies[priority].sent++;
  }

  #receive(data: Buffer, start: number, end: number, entered: PromiseWithResolvers<void>): void {
    // 50 and 48: a message. Hundreds of thousands a second: no text is made of most of them.
    if (data[start] === 50 && data[start + 1] === 48) {
      const at = data.indexOf(mark, start);
      if (at < 0 || at >= end) return;
      this.tallies[data[at - 1] === lastOfLow ? "low" : "normal"].received++;
      if (this.#received++ % timedEach > 0) return;
      const sentAt = Number.parseFloat(data.toString("latin1", at + 1, at + 20));
      return this.latencies.add((now() - sentAt) * 1000);
    }
    const text = data.toString("latin1", start, end);
    const [, ack] = /^3(\d+)\[/.exec(text) ?? [];
    if (ack === undefined) return;
    const isSuccess = text.includes('"success":true');
    const priority = priorities[Number(ack) - 2];
    if (priority === undefined) {
      if (!isSuccess) entered.reject(new Error(text));
      else if (ack === "1") entered.resolve();
      return;
    }
    const tally = this.tallies[priority];
    if (!isSuccess) {
      this.refusal ??= text;
      tally.refused++;
    } else if (text.includes('"dropped":true')) tally.dropped++;
    else tally.accepted++;
  }
}

/** Milliseconds. */
function now(): number {
  return performance.now();
}

async function startSpear(cluster: TestCluster, id: number, options: Record<string, number>) {
  const { rate = 0, batch = 0 } = options;
  const [port, monitorPort] = [freePort(), freePort()];
  const profile = Deno.makeTempFileSync({ suffix: ".json" });
  const kind = { match: "live:*", messagesPerSecond: rate, drop: true, presence: false };
  Deno.writeTextFileSync(
    profile,
    JSON.stringify({
      ...{ id, port, monitorPort, drainMs: 0, batchDelayMs: batch },
      ...{ auth: { scheme: "open" }, log: { level: "error" }, redis: cluster.redis.url },
      registry: `zookeeper://${cluster.zookeeper.address}/gru`,
      groups: [kind],
    }),
  );
  const words = taskArguments("spear")
    .map((word) => word.startsWith("--allow-read=") ? `${word},${profile}` : word);
  const process = new ServerProcess(Deno.execPath(), { args: [...words, "--profile", profile] });
  const monitor = `http://127.0.0.1:${monitorPort}`;
  await process.ready(async () => {
    const response = await fetch(`${monitor}/readyz`).catch(() => undefined);
    await response?.body?.cancel();
    return response?.ok ?? false;
  }, { what: `spear${id}` });
  Deno.removeSync(profile);
  return {
    ...{ process, monitor, address: `http://127.0.0.1:${port}` },
    [Symbol.asyncDispose]: () => process[Symbol.asyncDispose](),
  };
}

async function main(options: Record<keyof typeof flags, number>): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const cluster = stack.use(
    await TestCluster.start({ redis: { args: ["--appendonly", "yes"] } }),
  );
  const quiet = { "log.level": "error" };
  await Promise.all([
    cluster.add("idgen", "test1", quiet),
    cluster.add("stat", "test1", quiet),
  ]);
  const spears: Awaited<ReturnType<typeof startSpear>>[] = [];
  for (let id = 1; id <= options.spears; id++) {
    spears.push(stack.use(await startSpear(cluster, id, options)));
  }
  const room = new Room();
  stack.defer(() => room.members.forEach((member) => member.close()));
  const pids = spears.map(({ process }) => process.pid);
  let at = 0;
  await Promise.all(Array.from({ length: connectingAtOnce }, async () => {
    while (at < options.members) {
      const user = ++at;
      await room.enter(spears[user % spears.length]?.address ?? "", user);
    }
  }));
  const usages = () => Promise.all([...pids, cluster.redis.pid ?? 0].map(usageOf));
  const before = await usages();
  const began = now();
  const due = options.sent * options.seconds;
  for (let sent = 0; sent < due;) {
    const dueNow = Math.floor((now() - began) * options.sent / 1000) + 1;
    for (; sent < Math.min(dueNow, due); sent++) room.send(sent);
    await pause(1);
  }
  const seconds = (now() - began) / 1000;
  const after = await usages();
  let received = -1;
  let since = now();
  await waitFor(() => {
    const all = room.tallies.low.received + room.tallies.normal.received;
    if (all !== received) [received, since] = [all, now()];
    return now() - since > quietMs;
  }, { timeoutMs: 60_000 });
  say(`${options.members} members, ${options.sent} messages a second sent, ${options.rate} taken`);
  for (const priority of priorities) {
    const { sent, accepted, dropped, refused, received } = room.tallies[priority];
    say(
      `${
        priority.padEnd(7)
      } sent ${sent}, accepted ${accepted}, dropped ${dropped}, refused ${refused}, ` +
        `lost ${accepted * options.members - received} of ${accepted * options.members} deliveries`,
    );
  }
  if (room.refusal !== undefined) say(`first refusal: ${room.refusal}`);
  const [p50, p99, most] = [0.5, 0.99, 1].map((share) =>
    room.latencies.quantileMs(share).toFixed(1)
  );
  say(
    `accepted a second ${
      ((room.tallies.low.accepted + room.tallies.normal.accepted) / seconds).toFixed(1)
    }`,
  );
  say(`from sender to member: p50 ${p50} ms, p99 ${p99} ms, longest ${most} ms`);
  for (const [i, name] of [...pids.map((_, i) => `spear${i + 1}`), "redis"].entries()) {
    const { memoryBytes: mb0 = 0, cpuSeconds: cpu0 = 0 } = before[i] ?? {};
    const { memoryBytes: mb1 = 0, cpuSeconds: cpu1 = 0 } = after[i] ?? {};
    const mb = (bytes: number) => (bytes / 1e6).toFixed(0);
    const share = (100 * (cpu1 - cpu0) / seconds).toFixed(0);
    say(`${name}: memory ${mb(mb0)} MB before, ${mb(mb1)} MB after; ${share} % of a core`);
  }
}

const { values } = parseArgs({
  args: Deno.args,
  options: {
    ...Object.fromEntries(
      Object.entries(flags).map(([name, [fallback]]) => [
        name,
        { type: "string" as const, default: fallback as string },
      ]),
    ),
    help: { type: "boolean" as const },
  },
});
if (values.help) {
  for (const [name, [fallback, text]] of Object.entries(flags)) {
    say(`  --${name.padEnd(8)} ${text} [${fallback}]`);
  }
} else {
  const numbers = Object.entries(flags).map(([name]) => {
    const value = Number(Reflect.get(values, name));
    if (!(value > 0)) {
      throw new TypeError(`--${name}: expected a number, got ${Reflect.get(values, name)}`);
    }
    return [name, value] as const;
  });
  await main(Object.fromEntries(numbers) as Record<keyof typeof flags, number>);
}
