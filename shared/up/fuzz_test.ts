import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { freePort, type ServerProcess, waitFor } from "@gru/shared/testing/harness";
import { authenticated } from "../../spear/spear_testing.ts";
import { beginPolling, confuse, Fuzzer, textFrame, throwAt, upgrade } from "./fuzz.ts";
import { spawnProgram } from "./processes.ts";

const seed = Number(Deno.env.get("GRU_FUZZ_SEED") ?? 20_260_730);
const requests = 15_000;
const frames = 75_000;
const bodies = 10_000;
/** Few: after a bad one the connection ends, and the others are not looked at. */
const framesPerConnection = 5;
const bodiesPerConnection = 2;
const connectionsAtOnce = 48;
/** Valid ones where they do not belong; `GRU_FUZZ_INPUTS` for more. */
const confusedInputs = Number(Deno.env.get("GRU_FUZZ_INPUTS") ?? 20_000);

interface Victim {
  readonly process: ServerProcess;
  readonly hostname: string;
  readonly port: number;
  readonly monitorPort: number;
}

async function start(
  program: "spear" | "ticket" | "stat",
  flags: Record<string, string> = {},
): Promise<Victim> {
  const port = freePort();
  const monitorPort = program === "ticket" ? port : freePort();
  const ports = {
    ticket: { port },
    spear: { port, monitorPort },
    stat: { port: monitorPort, httpPort: port, redis: "memory:" },
  };
  const common = { registry: "memory:", "log.level": "debug" };
  const process = spawnProgram(program, "dev", { ...common, ...ports[program], ...flags });
  const victim = { process, hostname: "127.0.0.1", port, monitorPort };
  await process.ready(async () => (await metric(victim, "process_resident_memory_bytes")) > 0, {
    what: program,
  });
  return victim;
}

async function metric({ hostname, monitorPort }: Victim, name: string): Promise<number> {
  try {
    const text = await (await fetch(`http://${hostname}:${monitorPort}/metrics`)).text();
    return Number(new RegExp(`^${name}(?:\\{.*\\})? (.+)$`, "m").exec(text)?.[1] ?? NaN);
  } catch {
    return NaN;
  }
}

function residentMb(victim: Victim): Promise<number> {
  return metric(victim, "process_resident_memory_bytes").then((bytes) => bytes / 1e6);
}

async function inParallel(count: number, work: (i: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: connectionsAtOnce }, worker));
}

Deno.test(`100 000 random HTTP requests, frames and polled bodies (seed ${seed}) neither crash a spear, a ticket or a stat nor stay in memory`, async () => {
  await using stack = new AsyncDisposableStack();
  const spear = await start("spear", { mode: "single", "limits.authMs": "2000" });
  stack.use(spear.process);
  const ticket = await start("ticket");
  stack.use(ticket.process);
  const stat = await start("stat");
  stack.use(stat.process);
  const victims = { spear, ticket, stat };
  const doors = [...Object.values(victims), { ...spear, port: spear.monitorPort }];
  const address = `http://${spear.hostname}:${spear.port}`;
  await using honest = await authenticated(address, 7);
  await honest.request("subscribe", { userId: 7, subscribeGroups: [{ id: 77 }] });

  async function honestWork(what: string): Promise<void> {
    const { data } = await honest.request("msg", { type: 1, target: { id: 77 }, content: what });
    assert.equal((await honest.next("msg")).seq, data.seq);
    const answer = await fetch(
      `http://127.0.0.1:${ticket.port}/ticket?userId=1&userName=a&appType=1&token1=x`,
    );
    assert.equal((await answer.json()).errorCode, 701);
    for (const { process } of Object.values(victims)) assert.ok(process.running, process.output);
  }

  async function round(part: number, random: Fuzzer): Promise<void> {
    await inParallel(requests / 5, async (i) => {
      await throwAt(random.pick(doors), [random.request()], 5);
      if (i % 500 === 0) await honestWork(`request ${part} ${i}`);
    });
    await inParallel(frames / 5 / framesPerConnection, async (i) => {
      // Some know how to come in: what they send then reaches further.
      const opening = random.pick([
        [upgrade],
        [upgrade, textFrame("40")],
        [upgrade, textFrame("40"), textFrame('420["auth",{"id":1}]')],
      ]);
      const sent = Array.from({ length: framesPerConnection }, () => random.frame());
      await throwAt(spear, [...opening, ...sent], 20);
      if (i % 500 === 0) await honestWork(`frames ${part} ${i}`);
    });
    await inParallel(bodies / 5 / bodiesPerConnection, async (i) => {
      const engine = random.pick([3, 4] as const);
      const post = await beginPolling(spear, engine);
      const joined = random.below(2) === 0 ? [post(Buffer.from("40"), "text/plain")] : [];
      const sent = Array.from({ length: bodiesPerConnection }, () => {
        const { body, contentType } = random.polled(engine);
        return post(body, contentType);
      });
      await throwAt(spear, [...joined, ...sent], 20);
      if (i % 500 === 0) await honestWork(`bodies ${part} ${i}`);
    });
  }

  const random = new Fuzzer(seed);
  const resident: { spear: number; ticket: number; stat: number }[] = [];
  for (let part = 0; part < 5; part++) {
    await round(part, random);
    resident.push({
      spear: await residentMb(spear),
      ticket: await residentMb(ticket),
      stat: await residentMb(stat),
    });
  }
  const names = ["spear", "ticket", "stat"] as const;
  const line = (name: typeof names[number]) =>
    resident.map((at) => at[name].toFixed(0).padStart(5)).join("");
  // deno-lint-ignore no-console
  console.log(
    `  resident MB after each fifth: ${names.map((name) => name + line(name)).join(", ")}`,
  );
  await honestWork("end");
  // Warm after three fifths. What is kept for each input would show: 40 000 inputs, at 1.5 KB each, are 60 MB.
  const [first, last] = [resident[2], resident.at(-1)];
  for (const name of names) {
    assert.ok((last?.[name] ?? 0) - (first?.[name] ?? 0) < 60, `the memory of ${name} grew`);
  }
  for (const { process } of Object.values(victims)) {
    assert.doesNotMatch(process.output, /unhandled|uncaught|TypeError|RangeError|at file:/i);
  }
  // All of them are gone.
  await waitFor(async () => {
    const answer = await honest.request("online", 77);
    return answer.data.userIds.length === 1;
  });
});

Deno.test(`${confusedInputs} valid packets in wrong numbers and orders (seed ${seed}) neither crash a spear nor stay in memory, and honest clients see nothing of them`, async () => {
  await using stack = new AsyncDisposableStack();
  const spear = await start("spear", { mode: "single", "limits.authMs": "2000" });
  stack.use(spear.process);
  await using honest = await authenticated(`http://${spear.hostname}:${spear.port}`, 7);
  await honest.request("subscribe", { userId: 7, subscribeGroups: [{ id: 77 }] });
  const random = new Fuzzer(seed);
  const resident: number[] = [];
  for (let part = 1; part <= 5; part++) {
    let left = confusedInputs / 5;
    const worker = async () => {
      while (left > 0) {
        const thrown = await confuse(spear, random, 20);
        left -= thrown;
      }
    };
    const honestWork = async () => {
      while (left > 0) {
        const content = `${part} ${left}`;
        const message = { type: 1, target: { id: 77 }, content };
        const { data } = await honest.request("msg", message);
        const got = await honest.next("msg");
        assert.deepEqual([got.seq, got.content], [data.seq, content]);
        assert.ok(spear.process.running, spear.process.output);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    };
    await Promise.all([...Array.from({ length: connectionsAtOnce }, worker), honestWork()]);
    resident.push(await residentMb(spear));
  }
  // deno-lint-ignore no-console
  console.log(`  resident MB after each fifth: ${resident.map((mb) => mb.toFixed(0)).join(" ")}`);
  const [, second = 0] = resident;
  assert.ok((resident.at(-1) ?? 0) - second < 60, "the memory of spear grew");
  assert.doesNotMatch(
    spear.process.output,
    /unhandled|uncaught|TypeError|RangeError|at file:/i,
  );
  // All of them are gone: each had no more than limits.authMs, or had left its user's place.
  await waitFor(async () => {
    const answer = await honest.request("online", 77);
    return answer.success && answer.data.userIds.length === 1;
  });
});
