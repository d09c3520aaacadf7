/** The operator's endpoints of a program: is it alive, is it ready, and its metrics. */
import process from "node:process";
import { eventLoopLagSeconds } from "../loop_lag.ts";
import { openMetrics, type Registry } from "../metrics.ts";

export interface OpsOptions {
  readonly metrics: Registry;
  /** Checks by name; the program is ready when all are true. A check that throws counts as false. */
  readonly ready: () =>
    | Readonly<Record<string, boolean>>
    | Promise<Readonly<Record<string, boolean>>>;
  /** What is worth knowing though it does not make the program unready, by name. */
  readonly notes?: (() => Readonly<Record<string, string>>) | undefined;
  /** What each check that is false lacks, as far as that is known. */
  readonly missing?: () => Readonly<Record<string, string>>;
  /**
   * Rejects callers that may not read the metrics. Health is open to everybody, because proxies probe it under names of
   * their own.
   */
  readonly guard?: (request: Request) => Response | undefined;
}

/** Returns undefined for paths that are not its own, so that another handler can follow. */
export type OpsHandler = (request: Request) => Promise<Response> | undefined;

/**
 * - `GET /healthz`: 200 as long as the process answers at all.
 * - `GET /readyz`: 200 or 503 with `{ "ready": bool, "checks": { <name>: bool } }`, and `missing` and `notes`, texts by name, where
 *   there are any.
 * - `GET /metrics`: Prometheus text, with the process's own gauges.
 */
export function opsHandler({ metrics, ready, missing, notes, guard }: OpsOptions): OpsHandler {
  gaugeProcess(metrics);

  async function readiness(): Promise<Response> {
    let checks: Readonly<Record<string, boolean>>;
    try {
      checks = await ready();
    } catch {
      checks = { check: false };
    }
    const isReady = Object.values(checks).every(Boolean);
    const texts = Object.entries({ missing: missing?.() ?? {}, notes: notes?.() ?? {} })
      .filter(([, known]) => Object.keys(known).length > 0);
    return Response.json(
      { ready: isReady, checks, ...Object.fromEntries(texts) },
      { status: isReady ? 200 : 503 },
    );
  }

  const routes: Readonly<Record<string, (request: Request) => Promise<Response>>> = {
    "/healthz": async () => new Response("ok\n"),
    "/readyz": readiness,
    "/metrics": async (request) =>
      guard?.(request) ??
        new Response(await metrics.metrics(), { headers: { "content-type": metrics.contentType } }),
  };

  return (request) => {
    const { method, url } = request;
    const { pathname } = new URL(url);
    const route = Object.hasOwn(routes, pathname) ? routes[pathname] : undefined;
    if (route === undefined) return undefined;
    if (method === "GET" || method === "HEAD") return route(request);
    return Promise.resolve(new Response(null, { status: 405, headers: { allow: "GET, HEAD" } }));
  };
}

/**
 * prom-client's own process metrics read /proc, which programs here have no permission for: half of them would be 0.
 */
export const processMetrics = {
  process_resident_memory_bytes: { type: "gauge", help: "Resident memory" },
  process_heap_used_bytes: { type: "gauge", help: "JavaScript heap in use" },
  process_external_memory_bytes: { type: "gauge", help: "Buffers outside the heap" },
  process_cpu_seconds: { type: "gauge", help: "CPU time since the start, user and system" },
  process_start_time_seconds: { type: "gauge", help: "When the process started, Unix time" },
  process_event_loop_lag_seconds: { type: "gauge", help: "How late a timer ran just now" },
} as const;

function gaugeProcess(metrics: Registry): void {
  openMetrics(metrics, processMetrics, {
    process_resident_memory_bytes: () => Deno.memoryUsage().rss,
    process_heap_used_bytes: () => Deno.memoryUsage().heapUsed,
    process_external_memory_bytes: () => Deno.memoryUsage().external,
    process_cpu_seconds: cpuSeconds,
    process_start_time_seconds: startSeconds,
    process_event_loop_lag_seconds: eventLoopLagSeconds,
  });
}

function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000_000;
}

function startSeconds(): number {
  return performance.timeOrigin / 1000;
}
