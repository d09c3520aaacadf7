/**
 * What affinity saves: three spears with real ZooKeeper and Redis, users in groups of 20 of which every one talks, placed by
 * their ids and, in the same run, by their groups. `deno task bench:affinity [--users 600] [--rate 600] [--seconds 10] [--rounds 3]`
 */
import { parseArgs } from "node:util";
import { pause } from "@gru/shared/pause";
import { Ledger } from "../../spear/load/ledger.ts";
import { usageOf } from "../../spear/load/measures.ts";
import { Talk, Witness } from "../../spear/load/witness.ts";
import { TestCluster } from "./processes.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    users: { type: "string", default: "600" },
    rate: { type: "string", default: "600" },
    seconds: { type: "string", default: "10" },
    rounds: { type: "string", default: "3" },
  },
});
const [users, rate, seconds, rounds] = [
  values.users,
  values.rate,
  values.seconds,
  values.rounds,
].map(Number) as [number, number, number, number];
const groupSize = 20;

await using cluster = await TestCluster.start({ redis: {} });
const [ticket, spears, others] = await Promise.all([
  cluster.add("ticket", "test1"),
  Promise.all([1, 2, 3].map((id) => cluster.add("spear", "test1", { id }))),
  Promise.all([cluster.add("idgen", "test1"), cluster.add("stat", "test1")]),
]);
const processes = {
  spears: spears.map(({ process }) => process.pid),
  redis: [cluster.redis.pid ?? 0],
  others: others.map(({ process }) => process.pid),
};

async function cpuSeconds(pids: readonly number[]): Promise<number> {
  const all = await Promise.all(pids.map(usageOf));
  return all.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0);
}

/** CPU for each message, microseconds, and how many messages came. */
async function measure(together: boolean, firstUser: number) {
  const ledger = new Ledger();
  await using stack = new AsyncDisposableStack();
  const witnesses = Array.from({ length: users }, (_, i) => {
    const group = 1000 + Math.floor(i / groupSize);
    return stack.use(
      new Witness({
        ...{ ticket: ticket.address, userId: firstUser + i, group, ledger: () => ledger },
        ...(together ? { affinity: `${group}` } : {}),
      }),
    );
  });
  while (!witnesses.every(({ ready }) => ready)) await pause(50);
  using talk = new Talk(witnesses, rate);
  talk.start();
  await pause(2000);
  const [sent, before] = [ledger.sent, await usage()];
  await pause(seconds * 1000);
  const after = await usage();
  const messages = ledger.sent - sent;
  const perMessage = Object.entries(after).map(([name, value]) =>
    [name, Math.round((value - (before[name] ?? 0)) / messages * 1e6)] as const
  );
  return { placed: together ? "by group" : "by user", messages, ...Object.fromEntries(perMessage) };
}

async function usage(): Promise<Record<string, number>> {
  return Object.fromEntries(
    await Promise.all(
      Object.entries(processes).map(async ([name, pids]) =>
        [`${name}: CPU µs a message`, await cpuSeconds(pids)] as const
      ),
    ),
  );
}

const rows = [];
for (let round = 0; round < rounds; round++) {
  for (const together of [false, true]) {
    rows.push(await measure(together, 1 + (2 * round + Number(together)) * users));
  }
}
// deno-lint-ignore no-console
console.table(rows);
