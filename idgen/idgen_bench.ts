/**
 * Ids per second: in the process, and from an idgen process over RPC, compared with a bare Hono handler on `Deno.serve`
 * that is called over the same HTTP/2. `deno task bench:idgen` prints the tables.
 */
import { Hono } from "hono";
import type { Registry } from "@gru/shared/registry/registry";
import { connectRpc } from "@gru/shared/rpc/client";
import { freePort, projectRoot, ServerProcess, taskArguments } from "@gru/shared/testing/harness";
import { idgenContract } from "./contract.ts";
import { Snowflake } from "./snowflake.ts";

const roundMs = 1000;
const rounds = 3;

interface Contender {
  readonly name: string;
  /** Does some work and returns how many ids it made. */
  readonly run: () => number | Promise<number>;
}

async function rate(contender: Contender): Promise<number> {
  const startedAt = performance.now();
  let ids = 0;
  while (performance.now() - startedAt < roundMs) {
    for (let i = 0; i < 16; i++) {
      const made = contender.run();
      ids += typeof made === "number" ? made : await made;
    }
  }
  return 1000 * ids / (performance.now() - startedAt);
}

/**
 * The contenders run in turn, round after round; the best round of each counts. Ratios are relative to the first
 * contender.
 */
async function compare(title: string, contenders: readonly Contender[]): Promise<void> {
  const best = contenders.map(() => 0);
  for (let round = 0; round < rounds; round++) {
    for (const [i, contender] of contenders.entries()) {
      best[i] = Math.max(best[i] ?? 0, await rate(contender));
    }
  }
  const lines = contenders.map(({ name }, i) => {
    const perSecond = Math.round(best[i] ?? 0);
    const ratio = perSecond / (best[0] ?? 1);
    return `${name.padEnd(44)} ${perSecond.toLocaleString("en").padStart(12)} ${
      ratio.toFixed(2).padStart(8)
    }`;
  });
  // deno-lint-ignore no-console
  console.log(
    `${title.padEnd(44)} ${"ids/s".padStart(12)} ${"ratio".padStart(8)}\n${lines.join("\n")}\n`,
  );
}

function inProcess(): Contender[] {
  const [one, hundred, many] = [new Snowflake(1), new Snowflake(2), new Snowflake(3)];
  return [
    {
      name: "crypto.randomUUID (128 bits, no order)",
      run: () => {
        for (let i = 0; i < 100; i++) crypto.randomUUID();
        return 100;
      },
    },
    {
      name: "Snowflake.next(1)",
      run: () => {
        for (let i = 0; i < 100; i++) one.next(1, Date.now());
        return 100;
      },
    },
    { name: "Snowflake.next(100)", run: () => hundred.next(100, Date.now()).length },
    { name: "Snowflake.next(10 000)", run: () => many.next(10_000, Date.now()).length },
  ];
}

async function serving(port: number, args: readonly string[]): Promise<ServerProcess> {
  const server = new ServerProcess(Deno.execPath(), { args: [...args], cwd: projectRoot });
  await server.ready(async () => {
    try {
      return (await (await fetch(`http://127.0.0.1:${port}/healthz`)).text()) !== "";
    } catch {
      return false;
    }
  }, { what: args.join(" ") });
  return server;
}

async function overRpc(): Promise<void> {
  const [port, barePort] = [freePort(), freePort()];
  const flags = ["--profile", "test1", "--registry", "memory:", "--port", `${port}`];
  await using _idgen = await serving(port, [...taskArguments("idgen"), ...flags]);
  const bareArguments = ["run", "--no-prompt", "--allow-net", "--allow-env", "--allow-read"];
  await using _bare = await serving(
    barePort,
    [...bareArguments, import.meta.filename ?? "", "--serve", `${barePort}`],
  );
  using http2 = Deno.createHttpClient({ http1: false, http2: true });
  const bare = (callers: number): Contender => ({
    name: `a bare Hono handler, ${callers} at a time`,
    run: async () => {
      await Promise.all(Array.from({ length: callers }, async () => {
        const answer = await fetch(`http://127.0.0.1:${barePort}/idgen/next`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: '{"count":1}',
          client: http2,
        });
        await answer.json();
      }));
      return callers;
    },
  });
  const rpc = `http://127.0.0.1:${port}`;
  const registry: Pick<Registry, "watch"> = {
    watch: async (service, onView) => {
      const instance = { service, name: "idgen1", addresses: { rpc }, startedAt: 0, meta: {} };
      onView({ instances: [instance], stale: false });
      return { [Symbol.dispose]: () => {} };
    },
  };
  await using client = await connectRpc(idgenContract, { registry, timeoutMs: 5000 });
  const calls = (callers: number, count: number): Contender => ({
    name: `${callers} at a time, ${count} ids a call`,
    run: async () => {
      const answers = Array.from({ length: callers }, () => client.any.next({ count }));
      return (await Promise.all(answers)).reduce((sum, { ids }) => sum + ids.length, 0);
    },
  });
  await compare("over the RPC, one idgen process", [
    bare(64),
    bare(1),
    calls(1, 1),
    calls(64, 1),
    calls(1, 100),
    calls(8, 100),
    calls(1, 10_000),
    calls(4, 10_000),
  ]);
}

/** The least code that can answer such a call. */
function serveBare(port: number): void {
  const app = new Hono().get("/healthz", (context) => context.text("ok"))
    .post("/idgen/next", async (context) => {
      await context.req.json();
      return context.json({ ids: ["7123456789012345678"] });
    });
  Deno.serve({ hostname: "127.0.0.1", port, onListen: () => {} }, (request) => app.fetch(request));
}

if (import.meta.main && Deno.args[0] === "--serve") {
  serveBare(Number(Deno.args[1]));
} else if (import.meta.main) {
  await compare("in the process", inProcess());
  await overRpc();
}
