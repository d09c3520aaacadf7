/**
 * Calls per second and their latency: a bare `fetch` to a bare `Deno.serve`, our RPC over the same HTTP/2 with metrics
 * (without a cluster key, and with one that every call and answer proves), and our local engine. Each figure is the
 * median of rounds taken in turn. Run: `deno run --allow-net=127.0.0.1 --ignore-env --ignore-read
 * shared/rpc/rpc_bench.ts`. Server and client share one process, and so one core for JavaScript, in every case.
 */
import { Registry as MetricsRegistry } from "prom-client";
import { z } from "zod";
import { MemoryRegistry } from "../registry/memory.ts";
import { serveHttp } from "../http/serve.ts";
import { connectRpc } from "./client.ts";
import { defineContract } from "./contract.ts";
import { localClient } from "./local.ts";
import { rpcHandler, serveContract } from "./server.ts";

const contract = defineContract("bench", {
  next: {
    input: z.strictObject({ count: z.number().int().min(1) }),
    output: z.object({ ids: z.array(z.string().regex(/^\d+$/)) }),
    idempotent: true,
  },
  take: {
    input: z.strictObject({}),
    output: z.object({ ids: z.array(z.string().regex(/^\d+$/)) }),
    idempotent: false,
  },
});
const answer = { ids: ["7123456789012345678"] };
const rounds = 5;
const roundMs = 1000;

type Call = () => Promise<unknown>;

interface Result {
  callsPerSecond: number;
  p50Ms: number;
  p99Ms: number;
}

async function measure(call: Call, underWay: number, ms: number): Promise<Result> {
  const latencies: number[] = [];
  const startedAt = performance.now();
  const endsAt = startedAt + ms;
  await Promise.all(Array.from({ length: underWay }, async () => {
    for (let at = performance.now(); at < endsAt;) {
      await call();
      const done = performance.now();
      latencies.push(done - at);
      at = done;
    }
  }));
  const tookMs = performance.now() - startedAt;
  latencies.sort((a, b) => a - b);
  return {
    callsPerSecond: latencies.length / tookMs * 1000,
    p50Ms: latencies[Math.floor(latencies.length * 0.5)] ?? NaN,
    p99Ms: latencies[Math.floor(latencies.length * 0.99)] ?? NaN,
  };
}

function median(results: readonly Result[], key: keyof Result): number {
  return results.map((result) => result[key]).sort((a, b) => a - b)[results.length >> 1] ?? NaN;
}

if (import.meta.main) {
  await using stack = new AsyncDisposableStack();
  const bare = stack.use(
    Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
      await request.json();
      return Response.json(answer);
    }),
  );
  const http = Deno.createHttpClient({ http1: false, http2: true });
  stack.defer(() => http.close());

  const handlers = { next: () => answer, take: () => answer };
  const metrics = new MetricsRegistry();
  const clusterKey = "a key like those in use";
  const connect = async (security: { readonly clusterKey?: string }) => {
    const handler = rpcHandler([serveContract(contract, handlers)], { metrics, ...security });
    const server = stack.use(
      await serveHttp({ host: "127.0.0.1", port: 0, bodyBytes: Infinity, handler }),
    );
    const registry = stack.use(new MemoryRegistry());
    const addresses = { rpc: server.origin };
    await registry.register({
      service: "bench",
      name: "bench1",
      addresses,
      startedAt: 1,
      meta: {},
    });
    const options = { registry, timeoutMs: 5000, metrics, ...security };
    return stack.use(await connectRpc(contract, options));
  };
  const remote = await connect({ clusterKey });
  const trusting = await connect({});
  const local = stack.use(localClient(contract, handlers, { metrics }));

  const contestants: [name: string, call: Call][] = [
    ["bare fetch, bare Deno.serve", async () => {
      const response = await fetch(`http://127.0.0.1:${bare.addr.port}/bench/next`, {
        method: "POST",
        client: http,
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ count: 1 }),
      });
      return await response.json();
    }],
    ["RPC, no cluster key", () => trusting.any.next({ count: 1 })],
    ["RPC over HTTP/2", () => remote.any.next({ count: 1 })],
    ["RPC, not idempotent", () => remote.any.take({})],
    ["RPC, local engine", () => local.any.next({ count: 1 })],
  ];

  const line = (...cells: string[]) =>
    // deno-lint-ignore no-console
    console.log(cells.map((cell, i) => i === 0 ? cell.padEnd(30) : cell.padStart(11)).join(""));
  for (const underWay of [64, 1]) {
    const results = contestants.map((): Result[] => []);
    for (const [, call] of contestants) await measure(call, underWay, roundMs / 2);
    for (let round = 0; round < rounds; round++) {
      for (const [i, [, call]] of contestants.entries()) {
        results[i]?.push(await measure(call, underWay, roundMs));
      }
    }
    line(`${underWay} under way`, "calls/s", "p50 ms", "p99 ms", "of bare");
    const bareRate = median(results[0] ?? [], "callsPerSecond");
    for (const [i, [name]] of contestants.entries()) {
      const of = results[i] ?? [];
      const rate = median(of, "callsPerSecond");
      const ratio = `${(rate / bareRate).toFixed(2)} x`;
      const ms = (key: keyof Result) => median(of, key).toFixed(3);
      line(name, rate.toFixed(0), ms("p50Ms"), ms("p99Ms"), ratio);
    }
  }
}
