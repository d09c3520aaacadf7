/**
 * Attacks of every kind on a real spear with a real Redis, beside a hundred honest clients: the spear's memory, and the honest
 * clients' messages, connections and latency, each beside those of the quiet moment before. `GRU_ATTACK_MS` (default 2000) is how
 * long each attack lasts; with `GRU_ATTACK_ALONE=1` each form of client attacks by itself, alone and with 200 connections.
 */
import assert from "node:assert/strict";
import { serverTest } from "@gru/shared/testing/harness";
import { HonestCrowd } from "./attack_honest.ts";
import { type Endpoint, type Form, forms, Line, nameOf } from "./attack_line.ts";
import type { AttackOrder } from "./attack_worker.ts";
import { type AttackCounts, attacks, group, pause, tokens } from "./attackers.ts";
import { type RunningProgram, TestCluster } from "./processes.ts";

const attackMs = Number(Deno.env.get("GRU_ATTACK_MS") ?? 2000);
/** Then it has the machine for itself, and latency decides as well. */
const isLong = attackMs >= 10_000;
const alone = Deno.env.get("GRU_ATTACK_ALONE") === "1";
const only = Deno.env.get("GRU_ATTACK_KIND");
const megabyte = 2 ** 20;
/**
 * What an attack may add to the spear's resident memory. In a short attack gigabytes pass through in seconds, and most of what is
 * resident is garbage that has not been collected yet: then the bound only tells what grows without end.
 */
const growthBytes = (isLong ? 64 : 512) * megabyte;
/** The honest latency may be so many times that of the quiet moment before; below `floorMs` other programs decide. */
const latency = { times: 3, floorMs: 150 };
const token2Secret = "and-this-is-between-ticket-and-spear";

class AttackScene {
  constructor(
    readonly spear: RunningProgram,
    readonly endpoint: Endpoint,
    readonly crowd: HonestCrowd,
    readonly stolen: AttackOrder["stolen"],
  ) {}

  /** Runs a thread of attackers. */
  async attack(kind: string, who: readonly number[], connections: number): Promise<AttackCounts> {
    const worker = new Worker(new URL("attack_worker.ts", import.meta.url), { type: "module" });
    const order: AttackOrder = {
      ...{ kind, connections, token2Secret, stolen: this.stolen },
      ...{ endpoint: this.endpoint, forms: who, ms: attackMs },
    };
    try {
      return await new Promise<AttackCounts>((resolve, reject) => {
        worker.onmessage = ({ data }) => resolve(data);
        worker.onerror = (event) => {
          event.preventDefault();
          reject(new Error(`${kind}: ${event.message}`));
        };
        worker.postMessage(order);
      });
    } finally {
      worker.terminate();
    }
  }

  async play(kind: string, who: readonly number[], connections: number): Promise<void> {
    const { spear, crowd } = this;
    crowd.begin();
    await pause(isLong ? 3000 : 1000);
    const calm = await crowd.figures();
    assert.ok(
      calm.p99Ms > 0 && calm.lost === 0,
      `honest clients lose messages by themselves: ${JSON.stringify(calm)}`,
    );
    const before = await memoryOf(spear);
    crowd.begin();
    const peak = { ...before };
    const watching = setInterval(async () => {
      const now = await memoryOf(spear).catch(() => before);
      peak.resident = Math.max(peak.resident, now.resident);
      peak.used = Math.max(peak.used, now.used);
    }, 250);
    const counts = await this.attack(kind, who, connections);
    clearInterval(watching);
    const under = await crowd.figures();
    const mib = (bytes: number) => `${Math.round(bytes / megabyte)}`;
    const line = `${connections} connections, ${counts.opened} let in, ${counts.ended} ended, ` +
      `${mib(counts.sentBytes)} MiB sent; resident ${mib(before.resident)} ` +
      `+${mib(peak.resident - before.resident)} MiB, used ${mib(before.used)} ` +
      `+${mib(peak.used - before.used)} MiB; ` +
      `honest p50 ${calm.p50Ms.toFixed(1)} → ${under.p50Ms.toFixed(1)}, ` +
      `p99 ${calm.p99Ms.toFixed(1)} → ${under.p99Ms.toFixed(1)} ms, sent ${under.sent}, ` +
      `lost ${
        calm.lost + under.lost
      }, refused ${under.refused}, ended ${under.ended.length} ${under.ended}`;
    // deno-lint-ignore no-console
    console.log(`  ${kind}: ${line}`);
    assert.ok(spear.process.running, kind);
    assert.deepEqual(counts.wrong, [], kind);
    assert.ok(counts.opened > 0, `${kind}: nobody attacked`);
    assert.deepEqual(
      [calm.lost + under.lost, under.ended],
      [0, []],
      `${kind}: lost, ended: ${line}`,
    );
    assert.ok(peak.resident - before.resident <= growthBytes, `${kind}: memory: ${line}`);
    if (!isLong) return;
    assert.equal(under.refused, 0, `${kind}: refused: ${line}`);
    const mostMs = Math.max(latency.times * calm.p99Ms, latency.floorMs);
    assert.ok(under.p99Ms <= mostMs, `${kind}: latency: ${line}`);
  }
}

async function memoryOf({ monitor }: RunningProgram): Promise<{ used: number; resident: number }> {
  const text = await (await fetch(`${monitor}/metrics`)).text();
  const bytes = (name: string) =>
    Number(new RegExp(`^process_${name}_bytes\\S* (\\S+)`, "m").exec(text)?.[1]);
  return {
    used: bytes("heap_used") + bytes("external_memory"),
    resident: bytes("resident_memory"),
  };
}

/** A user whose client was kicked, and what it had to come back with. */
async function kicked(
  endpoint: Endpoint,
  monitor: string,
  token2: string,
): Promise<AttackOrder["stolen"]> {
  const form: Form = { transport: "websocket", engine: 4, known: true, reads: true };
  using line = await Line.open(endpoint, form);
  const answer = await line?.enter(99_999, token2);
  const resume = /"resume":"([^"]+)"/.exec(answer ?? "")?.[1];
  assert.ok(resume !== undefined, `no resume: ${answer}`);
  const response = await fetch(`${monitor}/spear/kickUser`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ userId: "99999", reason: "stolen" }),
  });
  assert.equal(response.status, 200, await response.text());
  return { userId: 99_999, resume };
}

/** A target whose history is full: 4 MB in large messages. */
async function fillHistory(endpoint: Endpoint, token2: string): Promise<void> {
  const form: Form = { transport: "websocket", engine: 4, known: true, reads: true };
  using line = await Line.open(endpoint, form);
  await line?.enter(99_998, token2);
  const content = "x".repeat(90_000);
  for (let i = 0; i < 100; i++) {
    const message = { type: 1, target: { id: group.full }, content };
    await line?.send(line.batch([`42${JSON.stringify(["msg", message])}`]));
    await pause(10);
  }
}

serverTest({
  name:
    "no attacker holds up honest clients, ends or loses anything of theirs, or fills the memory",
  needs: ["zookeeper", "redis"],
  fn: async (t) => {
    await using cluster = await TestCluster.start({ redis: {} });
    await Promise.all([cluster.add("idgen", "test1"), cluster.add("stat", "test1")]);
    const flags = { "auth.scheme": "jwt", "log.level": "warning" };
    const spear = await cluster.add("spear", "test1", flags, { GRU_TOKEN2_SECRET: token2Secret });
    const { hostname: host, port } = new URL(spear.address);
    const endpoint = { host, port: Number(port) };
    const token = tokens(token2Secret);
    const stolen = await kicked(endpoint, spear.monitor, await token(99_999));
    await fillHistory(endpoint, await token(99_998));
    await using crowd = await HonestCrowd.enter(endpoint, token);
    await pause(3000);
    const scene = new AttackScene(spear, endpoint, crowd, stolen);
    const all = forms.map((_, i) => i);
    for (const kind of Object.keys(attacks)) {
      if (only !== undefined && !kind.includes(only)) continue;
      if (!alone) await t.step(kind, () => scene.play(kind, all, 200));
      else {
        for (const [i, form] of forms.entries()) {
          for (const connections of [1, 200]) {
            const name = `${kind}: ${nameOf(form)}, ${connections}`;
            await t.step(name, () => scene.play(kind, [i], connections));
          }
        }
      }
    }
  },
});
