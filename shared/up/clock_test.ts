/**
 * Every program in turn with a clock that is two hours ahead, and a day behind, over real ZooKeeper and Redis: nothing changes
 * but the warning.
 */
import assert from "node:assert/strict";
import { clockOff, freePort, serverTest, waitFor } from "@gru/shared/testing/harness";
import { authenticated } from "../../spear/spear_testing.ts";
import { dialects, type Json, TestClient } from "../../spear/test_client.ts";
import { type RunningProgram, TestCluster } from "./processes.ts";

const [modern] = dialects;
const hour = 3_600_000;
/** Programs on one machine: what they say of the time differs by how long it takes to ask. */
const slackMs = 2000;

function isNow(time: number): boolean {
  return Math.abs(time - Date.now()) <= slackMs;
}

async function ask(url: string, body?: object): Promise<Json> {
  const headers = { "content-type": "application/json" };
  const posted = { method: "POST", headers, body: JSON.stringify(body) };
  const response = await fetch(url, body === undefined ? {} : posted);
  assert.equal(response.status, 200, `${url}: ${await response.clone().text()}`);
  return await response.json();
}

async function enter(address: string, id: number): Promise<Json> {
  assert.ok(modern);
  await using client = await TestClient.connect(address, modern);
  return await client.request("auth", { id, name: "u", appType: "1", token1: "a", token2: "b" });
}

/** What the console shows. */
async function snapshotOf(address: string): Promise<Json> {
  const { body } = await fetch(`${address}/events`);
  const reader = body?.pipeThrough(new TextDecoderStream()).getReader();
  const text = (await reader?.read())?.value ?? "";
  await reader?.cancel();
  return JSON.parse(text.replace(/^data: /, ""));
}

async function offsetOf({ monitor }: RunningProgram): Promise<number> {
  const metrics = await (await fetch(`${monitor}/metrics`)).text();
  return Number(/^gru_clock_offset_seconds\S* (\S+)$/m.exec(metrics)?.[1]);
}

function warningsOf({ process }: RunningProgram): number {
  return process.output.split("the clock of this machine is").length - 1;
}

serverTest({
  name:
    "clocks two hours ahead and a day behind, in one of each program, change nothing but the warning",
  needs: ["zookeeper", "redis", "faketime"],
  fn: async () => {
    await using cluster = await TestCluster.start({ tickMs: 500 });
    const ports = [freePort(), freePort()];
    const flags = { drainMs: 0 };
    const [idgen, stat1, stat2, spear1, spear2, ticket, minions] = await Promise.all([
      cluster.add("idgen", "test1"),
      cluster.add("stat", "test1", { id: 1, httpPort: ports[0] ?? 0 }),
      cluster.add("stat", "test1", { id: 2, httpPort: ports[1] ?? 0 }),
      cluster.add("spear", "test1", { ...flags, id: 1 }),
      cluster.add("spear", "test1", { ...flags, id: 2 }),
      cluster.add("ticket", "test1"),
      cluster.add("minions", "test1", { signIn: "open" }),
    ]);
    const programs = new Map(
      Object.entries({ idgen, stat1, stat2, spear1, spear2, ticket, minions }),
    );
    const at = (name: string) => programs.get(name)?.address ?? "";
    const apis = ports.map((port) => `http://127.0.0.1:${port}`);
    const ends: Record<string, number> = {};
    let samples = 1;
    let lastId = 0n;

    /** One that was restarted is not in every other's view at once. */
    async function isWhole(): Promise<void> {
      await waitFor(async () => {
        const lists = await Promise.all(apis.map((api) => ask(`${api}/nodes`)));
        return lists.every(({ nodes }) =>
          nodes.length === 2 && nodes.every((node: Json) => node.reporting && node.address !== null)
        );
      });
    }

    async function check(): Promise<void> {
      await isWhole();
      for (const api of apis) {
        const { bans } = await ask(`${api}/bans`);
        assert.deepEqual(Object.fromEntries(bans.map((ban: Json) => [ban.id, ban.until])), ends);
        const { at: moments } = await ask(`${api}/rates`);
        assert.ok(moments.length >= samples, `${moments.length} samples, there were ${samples}`);
        samples = moments.length;
        assert.ok(moments.every((one: number) => one <= Date.now() && one > Date.now() - hour));
        assert.ok(isNow((await ask(`${api}/totals`)).at));
        for (const { startedAt, uptimeMs } of (await ask(`${api}/nodes`)).nodes) {
          assert.ok(uptimeMs > 0 && uptimeMs < hour && isNow(startedAt + uptimeMs));
        }
      }
      const query = "userId=6&userName=u&appType=1&token1=a";
      const { data: { addr, time } } = await ask(`${at("ticket")}/ticket?${query}`);
      assert.ok([at("spear1"), at("spear2")].includes(addr) && isNow(time), `${addr} ${time}`);
      for (const [i, spear] of ["spear1", "spear2"].entries()) {
        for (const id of Object.keys(ends)) {
          assert.match((await enter(at(spear), Number(id))).msg, /is banned/);
        }
        await using client = await authenticated(at(spear), 6);
        const { id } = await ask(`${apis[i]}/users/6/messages`, { content: "hello", fromId: "0" });
        const message = await client.next("msg");
        assert.equal(`${message.id}`, id);
        assert.ok(isNow(message.createTime), `createTime is ${message.createTime}`);
        assert.ok(BigInt(id) > lastId);
        lastId = BigInt(id);
        await waitFor(async () => (await ask(`${apis[i]}/users/6`)).online);
        const { nodes } = await ask(`${apis[i]}/users/6`);
        assert.ok(isNow(nodes[0].connections[0].since));
      }
      const snapshot = await snapshotOf(at("minions"));
      assert.ok(isNow(snapshot.at));
      assert.deepEqual([snapshot.stale, snapshot.problem], [false, undefined]);
      for (const { startedAt } of snapshot.instances) {
        assert.ok(startedAt <= Date.now() + slackMs && startedAt > Date.now() - hour);
      }
    }

    async function ban(api: string, userId: string): Promise<void> {
      await ask(`${api}/users/${userId}/kick`, { reason: "spam", banMs: hour });
      const { bans } = await ask(`${api}/bans`);
      const { until } = bans.find(({ id }: Json) => id === userId);
      assert.ok(isNow(until - hour));
      ends[userId] = until;
    }

    await isWhole();
    // The first sample is taken some time after the start; from then on none may go.
    await waitFor(async () => (await ask(`${apis[1]}/rates`)).at.length >= samples);
    await ban(apis[0] ?? "", "5");
    await check();
    for (const name of ["idgen", "stat2", "spear2", "ticket", "minions"]) {
      for (const seconds of [7200, -86_400]) {
        const program = programs.get(name);
        assert.ok(program);
        const wrong = await program.restart({ signal: "SIGTERM", environment: clockOff(seconds) });
        programs.set(name, wrong);
        // Made by the wrong one, if it is a stat.
        await ban(apis[1] ?? "", `${100 + Object.keys(ends).length}`);
        await check();
        await waitFor(async () => Math.abs(await offsetOf(wrong) - seconds) < 2);
        assert.equal(warningsOf(wrong), 1, `${name}: ${wrong.process.output}`);
        for (const [other, right] of programs) {
          if (other === name) continue;
          assert.ok(Math.abs(await offsetOf(right)) < 1, other);
          assert.equal(warningsOf(right), 0, `${other}: ${right.process.output}`);
        }
        const shown = (await snapshotOf(at("minions"))).instances
          .filter(({ meta }: Json) => meta.clockOffsetSeconds !== undefined)
          .map((one: Json) => `${one.name} ${one.meta.clockOffsetSeconds}`);
        assert.deepEqual(shown, [`${/\d$/.test(name) ? name : `${name}1`} ${seconds}`]);
      }
      const wrong = programs.get(name);
      assert.ok(wrong);
      programs.set(name, await wrong.restart({ signal: "SIGTERM", environment: {} }));
    }
    await check();
  },
});
