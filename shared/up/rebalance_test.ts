/** A node that was restarted gets its share of the clients again, by the command. `GRU_REBALANCE_CLIENTS=300` for more clients. */
import assert from "node:assert/strict";
import { connect } from "@gru/client";
import { freePort, serverTest, waitFor } from "@gru/shared/testing/harness";
import { TestCluster } from "./processes.ts";

const clientCount = Number(Deno.env.get("GRU_REBALANCE_CLIENTS") ?? 90);
const groups = clientCount / 10;
const perSecond = clientCount / 5;
const sendEveryMs = 100;

serverTest({
  name:
    "a restarted node gets its share of the clients again: none of them loses a message or gets one twice",
  needs: ["zookeeper", "redis"],
  fn: async () => {
    await using cluster = await TestCluster.start({ tickMs: 1000 });
    await using stack = new AsyncDisposableStack();
    const flags = { "zookeeper.sessionMs": 2500 };
    const httpPort = freePort();
    const spear = { ...flags, drainMs: 1500 };
    const [ticket, , , third] = await Promise.all([
      cluster.add("ticket", "test1", flags),
      cluster.add("spear", "test1", spear),
      cluster.add("spear", "test2", spear),
      cluster.add("spear", "test1", { ...spear, id: 3 }),
      cluster.add("idgen", "test1", flags),
      cluster.add("stat", "test1", { ...flags, httpPort }),
    ]);
    const api = `http://127.0.0.1:${httpPort}`;
    const ask = async (path: string, method = "GET", body?: object) => {
      const headers = { "content-type": "application/json" };
      const init = body === undefined ? {} : { headers, body: JSON.stringify(body) };
      const response = await fetch(api + path, { method, ...init });
      return { status: response.status, answer: await response.json() };
    };
    const loads = async (): Promise<Record<string, number>> => {
      const { answer } = await ask("/rebalance");
      return Object.fromEntries(
        answer.nodes.map((
          one: { node: string; connections: number },
        ) => [one.node, one.connections]),
      );
    };
    const loadsAre = (test: (all: number[]) => boolean, what: string) =>
      waitFor(async () => {
        const all = Object.values(await loads());
        return all.reduce((sum, one) => sum + one, 0) === clientCount && test(all);
      }, { what, timeoutMs: 60_000 });

    const accepted = new Map<number, Set<string>>();
    const received: Map<string, number>[] = [];
    let longestSilenceMs = 0;
    let isQuiet = true;
    const rooms = Array.from({ length: clientCount }, (_, i) => {
      const user = { id: i + 1, name: `u${i}` };
      const gru = connect({ ticket: ticket.address, user, outbox: { messages: 10_000 } });
      stack.defer(() => gru.close());
      const room = gru.group(1 + i % groups);
      const mine = new Map<string, number>();
      received.push(mine);
      let heardAt = performance.now();
      room.on("message", ({ id }) => {
        mine.set(id, (mine.get(id) ?? 0) + 1);
        if (!isQuiet) longestSilenceMs = Math.max(longestSilenceMs, performance.now() - heardAt);
        heardAt = performance.now();
      });
      return { room, gru };
    });
    await waitFor(() => rooms.every(({ gru }) => gru.state.name === "online"), {
      what: "all clients are in",
      timeoutMs: 60_000,
    });

    const before = await loads();
    await third.process.kill("SIGTERM");
    assert.equal((await third.process.ended).code, 0, third.process.output);
    await third.restart();
    await loadsAre(() => true, "all clients are back");
    const uneven = await loads();
    assert.ok((uneven.spear3 ?? 0) < clientCount / 10, JSON.stringify(uneven));

    let sending = true;
    const underWay: Promise<void>[] = [];
    const load = (async () => {
      while (sending) {
        for (const [i, { room }] of rooms.slice(0, groups).entries()) {
          underWay.push(
            room.send("text").then(({ id }) => {
              accepted.getOrInsertComputed(1 + i % groups, () => new Set()).add(id);
            }),
          );
        }
        await new Promise((resolve) => setTimeout(resolve, sendEveryMs));
      }
    })();
    await waitFor(() => received.every((mine) => mine.size > 3), {
      what: "everybody hears of a group",
      timeoutMs: 30_000,
    });
    isQuiet = false;
    const began = performance.now();
    const first = await ask("/rebalance", "POST", { perSecond });
    assert.deepEqual([first.status, first.answer.running], [200, true]);
    await waitFor(async () => (await ask("/rebalance")).answer.moved > 0, {
      what: "the first clients have moved",
      timeoutMs: 30_000,
    });
    // Pressed twice: it goes on as before.
    assert.ok((await ask("/rebalance", "POST", { perSecond })).answer.moved > 0);
    await waitFor(async () => (await ask("/rebalance")).answer.running === false, {
      what: "the loads fit",
      timeoutMs: 60_000,
    });
    const tookMs = Math.round(performance.now() - began);
    isQuiet = true;
    sending = false;
    await load;
    await Promise.all(underWay);
    await loadsAre(() => true, "every client is at one node only");
    const after = await loads();
    const { answer: { asked, moved } } = await ask("/rebalance");

    const lost = () =>
      received.reduce((sum, mine, i) => {
        const all = accepted.get(1 + i % groups) ?? new Set();
        return sum + [...all].filter((id) => !mine.has(id)).length;
      }, 0);
    await waitFor(() => lost() === 0, { timeoutMs: 10_000 }).catch(() => {});
    const doubled = received.reduce(
      (sum, mine) => sum + [...mine.values()].filter((times) => times > 1).length,
      0,
    );
    const sent = underWay.length;
    const silence = Math.round(longestSilenceMs);
    // deno-lint-ignore no-console -- the figures are for people
    console.log({ before, uneven, after, asked, moved, tookMs, sent, doubled, silence }, lost());
    assert.deepEqual({ lost: lost(), doubled }, { lost: 0, doubled: 0 });
    const share = clientCount / 3;
    assert.ok((after.spear3 ?? 0) > share * 0.6, JSON.stringify(after));
    assert.ok(asked < share * 1.5, `${asked} clients were asked`);

    // With loads that fit, it has nothing to do.
    await ask("/rebalance", "POST", {});
    await waitFor(async () => (await ask("/rebalance")).answer.running === false, {
      timeoutMs: 30_000,
    });
    assert.deepEqual(await loads(), after);
  },
});
