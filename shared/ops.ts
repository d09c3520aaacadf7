/** What those who run a program ask it over HTTP: does it live, is it ready, what does it count. */
import process from "node:process";
import { Gauge, type Registry } from "./metrics.ts";

export interface OpsOptions {
  readonly metrics: Registry;
  /** By reason; ready is who has only true ones. One that throws counts as not ready. */
  readonly ready: () =>
    | Readonly<Record<string, boolean>>
    | Promise<Readonly<Record<string, boolean>>>;
}

/** undefined for what is not its own, so that it can stand before another handler. */
export type OpsHandler = (request: Request) => Promise<Response> | undefined;

/**
 * - `GET /healthz`: 200 as long as the process answers at all.
 * - `GET /readyz`: 200 or 503 with `{ "ready": bool, "checks": { <reason>: bool } }`.
 * - `GET /metrics`: Prometheus text, with the process's own gauges.
 */
export function opsHandler({ metrics, ready }: OpsOptions): OpsHandler {
  gaugeProcess(metrics);

  async function readiness(): Promise<Response> {
    let checks: Readonly<Record<string, boolean>>;
    try {
      checks = await ready();
    } catch {
      checks = { check: false };
    }
    const isReady = Object.values(checks).every(Boolean);
    return Response.json({ ready: isReady, checks }, { status: isReady ? 200 : 503 });
  }

  const routes: Readonly<Record<string, () => Promise<Response>>> = {
    "/healthz": async () => new Response("ok\n"),
    "/readyz": readiness,
    "/metrics": async () =>
      new Response(await metrics.metrics(), { headers: { "content-type": metrics.contentType } }),
  };

  return ({ method, url }) => {
    const { pathname } = new URL(url);
    const route = Object.hasOwn(routes, pathname) ? routes[pathname] : undefined;
    if (route === undefined) return undefined;
    if (method === "GET" || method === "HEAD") return route();
    return Promise.resolve(new Response(null, { status: 405, headers: { allow: "GET, HEAD" } }));
  };
}

/** prom-client's own process metrics read /proc, for which programs here have no permission: half would be 0. */
function gaugeProcess(metrics: Registry): void {
  const values: Record<string, [help: string, value: () => number | Promise<number>]> = {
    process_resident_memory_bytes: ["Resident memory", () => Deno.memoryUsage().rss],
    process_heap_used_bytes: ["JavaScript heap in use", () => Deno.memoryUsage().heapUsed],
    process_external_memory_bytes: ["Buffers outside the heap", () => Deno.memoryUsage().external],
    process_cpu_seconds: ["CPU time since the start, user and system", cpuSeconds],
    process_start_time_seconds: ["When the process started, Unix time", startSeconds],
    process_event_loop_lag_seconds: ["How late a timer ran just now", eventLoopLagSeconds],
  };
  for (const [name, [help, value]] of Object.entries(values)) {
    if (metrics.getSingleMetric(name) !== undefined) continue;
    new Gauge({
      name,
      help,
      registers: [metrics],
      async collect() {
        this.set(await value());
      },
    });
  }
}

function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000_000;
}

function startSeconds(): number {
  return performance.timeOrigin / 1000;
}

function eventLoopLagSeconds(): Promise<number> {
  const waitMs = 5;
  const due = performance.now() + waitMs;
  return new Promise((resolve) => {
    setTimeout(() => resolve(Math.max(0, performance.now() - due) / 1000), waitMs);
  });
}
