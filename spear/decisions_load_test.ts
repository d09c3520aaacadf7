/**
 * A spear in a process of its own that asks a business system in another process, which takes 20 ms for each answer.
 * `GRU_DECISIONS_MS=10000` makes each part longer.
 */
import assert from "node:assert/strict";
import {
  freePort,
  projectRoot,
  ServerProcess,
  slowTest,
  taskArguments,
} from "@gru/shared/testing/harness";
import { authenticated } from "./spear_testing.ts";
import type { Json, TestClient } from "./test_client.ts";

const secrets = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const answerMs = 20;
const senders = 20;
const perSecond = 1000;
const partMs = Number(Deno.env.get("GRU_DECISIONS_MS") ?? 3000);

const business = (port: number) => `
import { receiver } from "@gru/shared/webhooks/receiver";
const app = receiver({
  secrets: "${secrets}",
  decide: {
    beforeSend: async () => {
      await new Promise((resolve) => setTimeout(resolve, ${answerMs}));
      return { action: "allow" };
    },
  },
});
Deno.serve({ port: ${port}, hostname: "127.0.0.1" }, app.fetch);
`;

async function start(stack: AsyncDisposableStack) {
  const [port, monitorPort, receiverPort] = [freePort(), freePort(), freePort()];
  const receiver = stack.use(
    new ServerProcess(Deno.execPath(), {
      args: ["eval", "--no-check", business(receiverPort)],
      cwd: projectRoot,
    }),
  );
  const origin = `http://127.0.0.1:${receiverPort}`;
  await receiver.ready(() => answers(origin), { what: "the business system" });
  const file = await Deno.makeTempFile({ suffix: ".json" });
  stack.defer(() => Deno.remove(file));
  const rule = (match: string, more: object = {}) => ({
    ...{ match, allowPrivate: true, url: `${origin}/decisions`, ...more },
  });
  // However busy the machine is: that all are accepted must not depend on it.
  const patient = { deadlineMs: 30_000 };
  await Deno.writeTextFile(
    file,
    JSON.stringify({
      ...{ mode: "single", port, monitorPort, drainMs: 0, auth: { scheme: "open" } },
      decisions: {
        beforeSend: [
          rule("warm:*", patient),
          rule("asked:*", patient),
          rule("strict:*"),
          rule("lenient:*", { onFailure: "allow" }),
        ],
      },
    }),
  );
  const args = taskArguments("spear").map((arg) =>
    arg.startsWith("--allow-read") ? `${arg},${file}` : arg
  );
  const spear = stack.use(
    new ServerProcess(Deno.execPath(), {
      args: [...args, "--profile", file],
      cwd: projectRoot,
      env: { GRU_DECISIONS_SECRET: secrets },
    }),
  );
  const monitor = `http://127.0.0.1:${monitorPort}`;
  await spear.ready(() => answers(`${monitor}/readyz`), { what: "spear" });
  return {
    address: `http://127.0.0.1:${port}`,
    receiver,
    metric: async (name: string) => {
      const text = await (await fetch(`${monitor}/metrics`)).text();
      const lines = text.split("\n").filter((line) => line.startsWith(name));
      return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
    },
  };
}

async function answers(url: string): Promise<boolean> {
  const response = await fetch(url).catch(() => undefined);
  await response?.body?.cancel();
  return response !== undefined && response.status !== 503;
}

interface Sent {
  /** How long each answer took. */
  readonly tookMs: number[];
  readonly results: Json[];
}

/** Each sender sends its numbers to its own group, whatever the answers to the earlier ones. */
async function send(clients: readonly TestClient[], kind: string): Promise<Sent> {
  const sent: Sent = { tookMs: [], results: [] };
  const startedAt = performance.now();
  const asked: Promise<void>[] = [];
  const all = perSecond * partMs / 1000;
  for (let n = 0; n < all;) {
    const due = Math.min(all, (performance.now() - startedAt) * perSecond / 1000);
    for (; n < due; n++) {
      const [index, number] = [n % senders, Math.floor(n / senders)];
      const [client, at] = [clients[index], performance.now()];
      const message = { type: 1, target: { id: `${kind}:${index}` }, content: String(number) };
      asked.push(
        (client as TestClient).request("msg", message).then((result) => {
          sent.tookMs.push(performance.now() - at);
          sent.results.push(result);
        }),
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await Promise.all(asked);
  return sent;
}

/** Every sender is a member of its group and gets its own messages: all, in order. */
async function requireOrder(clients: readonly TestClient[], accepted: number): Promise<void> {
  for (const client of clients) {
    for (let i = 0; i < accepted / senders; i++) {
      assert.equal((await client.next("msg")).content, String(i));
    }
  }
}

function percentiles({ tookMs }: Sent): string {
  const sorted = tookMs.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor(share * (sorted.length - 1))]?.toFixed(1);
  return `p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, longest ${at(1)} ms`;
}

slowTest(
  "decisions at 1000 messages a second keep the order; a dead business system refuses or allows, and memory stays level",
  async () => {
    await using stack = new AsyncDisposableStack();
    const spear = await start(stack);
    const clients: TestClient[] = [];
    for (let i = 0; i < senders; i++) {
      const client = stack.use(await authenticated(spear.address, i + 1));
      const subscribeGroups = ["free", "asked", "strict", "lenient"].map((kind) => ({
        id: `${kind}:${i}`,
      }));
      await client.request("subscribe", { userId: i + 1, subscribeGroups });
      clients.push(client);
    }
    const lines: string[] = [];
    const memory = () => spear.metric("process_resident_memory_bytes");
    const show = async (what: string, sent: Sent) =>
      lines.push(`${what}: ${percentiles(sent)}; ${Math.round(await memory() / 1e6)} MB`);
    const accepted = ({ results }: Sent) => results.filter(({ success }) => success).length;

    // The connections to the business system are opened, and both programs are warm.
    await send(clients, "warm");
    for (const kind of ["free", "asked"]) {
      const sent = await send(clients, kind);
      await show(kind, sent);
      assert.equal(accepted(sent), sent.results.length, "all are accepted");
      await requireOrder(clients, sent.results.length);
    }
    const before = await memory();
    for (const end of ["frozen", "dead"]) {
      if (end === "frozen") spear.receiver.freeze();
      else await spear.receiver.kill();
      const refused = await send(clients, "strict");
      await show(`strict, receiver ${end}`, refused);
      assert.equal(accepted(refused), 0);
      assert.deepEqual([...new Set(refused.results.map(({ errorCode }) => errorCode))], [1001]);
    }
    const lenient = await send(clients, "lenient");
    await show("lenient, receiver dead", lenient);
    assert.equal(accepted(lenient), lenient.results.length);
    await requireOrder(clients, lenient.results.length);
    assert.equal(await spear.metric("gru_decisions_under_way"), 0);
    const grownMb = (await memory() - before) / 1e6;
    assert.ok(grownMb < 100, `grew by ${grownMb} MB`);
    // deno-lint-ignore no-console
    console.log(lines.join("\n"));
  },
);
