/**
 * A storm: all clients of the library lose their node at the same moment, while a message a second goes to the group in which all of
 * them are. `deno run -A shared/up/client_storm.ts [clients, default 10000]` needs ZooKeeper and Redis, as the tests do, and 20 000
 * open files a process. It prints when all are back, with how many attempts, what refused them, and what of the messages came.
 */
import { connect } from "@gru/client";
import { pause } from "@gru/shared/pause";
import { ServerProcess } from "@gru/shared/testing/harness";
import { fileURLToPath } from "node:url";
import { TestCluster } from "./processes.ts";

/** What a process of clients says each second, of all its clients together. */
interface Report {
  readonly online: number;
  /** Attempts to come in. */
  readonly attempts: number;
  /** How often each was the reason of an attempt that failed, or of a connection that ended. */
  readonly why: Readonly<Record<string, number>>;
  /** Unix milliseconds: when the last one came online. */
  readonly lastAt: number;
  readonly received: number;
  /** Messages that did not follow the one before. */
  readonly wrong: number;
  /** Events `missed`. */
  readonly missed: number;
  /** Clients whose last message is this one. */
  readonly last: Readonly<Record<number, number>>;
}

const processes = 2;
const openingAtOnce = 50;

async function hold(ticket: string, first: number, count: number): Promise<void> {
  let [online, attempts, lastAt, received, wrong, missed] = [0, 0, 0, 0, 0, 0];
  const why: Record<string, number> = {};
  const last: number[] = [];
  setInterval(() => {
    const ends: Record<number, number> = {};
    for (const one of last) ends[one] = (ends[one] ?? 0) + 1;
    const report: Report = { online, attempts, why, lastAt, received, wrong, missed, last: ends };
    // deno-lint-ignore no-console -- to the process that has started this one
    console.log(JSON.stringify(report));
  }, 1000);
  const open = async (id: number) => {
    const gru = connect({ ticket, user: { id, name: `user${id}` } });
    const { promise, resolve } = Promise.withResolvers<void>();
    let isOnline = false;
    attempts++;
    gru.on("state", (state) => {
      online += Number(state.name === "online") - Number(isOnline);
      isOnline = state.name === "online";
      if (state.name === "connecting") attempts++;
      else if (isOnline) {
        lastAt = Date.now();
        resolve();
      } else if ("why" in state && state.why) {
        const text = `${state.name}, ${state.why.code}: ${
          state.why.message.replace(/\(.*?\)/g, "").replace(/\d{3,}/g, "…").slice(0, 80)
        }`;
        why[text] = (why[text] ?? 0) + 1;
      }
    });
    const group = gru.group(10);
    group.on("missed", () => missed++);
    group.on("message", ({ content }) => {
      const [number, before] = [Number(content), last[id - first] ?? 0];
      received++;
      if (before !== 0 && number !== before + 1) wrong++;
      last[id - first] = number;
    });
    await promise;
  };
  let next = first;
  await Promise.all(Array.from({ length: openingAtOnce }, async () => {
    while (next < first + count) await open(next++);
  }));
}

// deno-lint-ignore no-console -- a tool for people
const say = (text: string) => console.log(text);

async function storm(clients: number): Promise<void> {
  await using cluster = await TestCluster.start();
  // All come from one address here.
  const limits = { "limits.perAddress": 1_000_000 };
  const spear = { mode: "redis" };
  const [ticket, spear1] = await Promise.all([
    cluster.add("ticket", "test1", limits),
    cluster.add("spear", "test1", spear),
    cluster.add("idgen", "test1"),
    cluster.add("stat", "test1"),
  ]);
  await using stack = new AsyncDisposableStack();
  const each = Math.ceil(clients / processes);
  const holders = Array.from({ length: processes }, (_, i) =>
    stack.use(
      new ServerProcess("deno", {
        args: [
          ...["run", "-A", "--no-check", fileURLToPath(import.meta.url), "hold", ticket.address],
          ...[`${1000 + i * each}`, `${Math.min(each, clients - i * each)}`],
        ],
      }),
    ));
  const reports = () =>
    holders.flatMap(({ output }): Report[] => {
      const line = output.split("\n").at(-2);
      return line?.startsWith("{") ? [JSON.parse(line)] : [];
    });
  const sum = (of: (report: Report) => number) =>
    reports().reduce((all, report) => all + of(report), 0);
  const allOnline = async () => {
    while (sum(({ online }) => online) < clients) {
      for (const { running, output } of holders) if (!running) throw new Error(output);
      await pause(100);
    }
  };
  const began = Date.now();
  await allOnline();
  say(`${clients} clients on one node after ${seconds(Date.now() - began)}`);

  await cluster.add("spear", "test2", spear);
  const sender = connect({ ticket: ticket.address, user: { id: 1, name: "sender" } });
  stack.defer(() => sender.close({ waitMs: 0 }));
  let [sent, accepted] = [0, 0];
  const sends: Promise<unknown>[] = [];
  const timer = setInterval(() => {
    sends.push(sender.group(10).send(`${++sent}`).then(() => accepted++));
  }, 1000);
  stack.defer(() => clearInterval(timer));
  await waitForLast(() => 2);
  const attemptsBefore = sum(({ attempts }) => attempts);
  const killedAt = Date.now();
  void spear1.process.kill();
  const curve = setInterval(() => {
    say(`  ${seconds(Date.now() - killedAt)}: ${sum(({ online }) => online)} online`);
  }, 5000);
  stack.defer(() => clearInterval(curve));
  // Until they have noticed.
  while (sum(({ online }) => online) > clients / 2) await pause(100);
  await allOnline();
  const backAt = Math.max(...reports().map(({ lastAt }) => lastAt));
  clearInterval(curve);
  say(`all back ${seconds(backAt - killedAt)} after the kill`);
  clearInterval(timer);
  await Promise.all(sends);
  await waitForLast(() => sent);
  say(`attempts: ${sum(({ attempts }) => attempts) - attemptsBefore}`);
  const why: Record<string, number> = {};
  for (const report of reports()) {
    for (const [text, count] of Object.entries(report.why)) why[text] = (why[text] ?? 0) + count;
  }
  for (const [text, count] of Object.entries(why)) say(`  ${count} × ${text}`);
  say(
    `messages: ${accepted} accepted of ${sent}, ${sum(({ received }) => received)} received, ` +
      `${sum(({ wrong }) => wrong)} out of turn, ${sum(({ missed }) => missed)} missed`,
  );

  /** Until that many messages, at least, have come to all. */
  async function waitForLast(number: () => number): Promise<void> {
    const have = () =>
      sum(({ last }) =>
        Object.entries(last).reduce(
          (all, [one, count]) => Number(one) >= number() ? all + count : all,
          0,
        )
      );
    while (have() < clients) await pause(200);
  }
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

if (import.meta.main) {
  const [first = "10000", ticket = "", from, count] = Deno.args;
  if (first === "hold") await hold(ticket, Number(from), Number(count));
  else {
    await storm(Number(first));
    Deno.exit();
  }
}
