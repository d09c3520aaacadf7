/** How many RPC calls there were, how they ended and how long they took. */
import type { Registry } from "prom-client";
import { durationBuckets, histogram } from "../metrics.ts";
import type { RpcCode } from "./contract.ts";

export type Observe = (service: string, method: string, code: RpcCode | "ok", ms: number) => void;

/** Counts into `gru_rpc_<side>_seconds`, by service, method and code; without a registry nowhere. */
export function observeCalls(side: "server" | "client", registry: Registry | undefined): Observe {
  if (registry === undefined) return () => {};
  const seconds = histogram(registry, {
    name: `gru_rpc_${side}_seconds`,
    help: side === "server"
      ? "RPC calls served, by result"
      : "RPC calls made, retries included, by result",
    labels: ["service", "method", "code"],
    buckets: durationBuckets,
  });
  return (service, method, code, ms) => seconds.observe({ service, method, code }, ms / 1000);
}
