/** Metrics of RPC calls: their number, result and duration. */
import type { Registry } from "prom-client";
import { openMetrics } from "../metrics.ts";
import type { RpcCode } from "./contract.ts";

const labels = ["service", "method", "code"] as const;

export const rpcMetrics = {
  gru_rpc_server_seconds: { type: "histogram", help: "RPC calls served, by result", labels },
  gru_rpc_client_seconds: {
    type: "histogram",
    help: "RPC calls made, retries included, by result",
    labels,
  },
  gru_rpc_client_retries_total: {
    type: "counter",
    help: "Attempts after the first attempt of a call",
    labels: ["service"],
  },
  gru_rpc_client_ejections_total: {
    type: "counter",
    help: "How often an instance was ejected: got no calls until it answered a probe",
    labels: ["service"],
  },
} as const;

export type Observe = (service: string, method: string, code: RpcCode | "ok", ms: number) => void;

/** Counts into `gru_rpc_<side>_seconds`, by service, method and code; counts nothing without a registry. */
export function observeCalls(side: "server" | "client", registry: Registry | undefined): Observe {
  if (registry === undefined) return () => {};
  const name = `gru_rpc_${side}_seconds` as const;
  const { [name]: seconds } = openMetrics(registry, { [name]: rpcMetrics[name] });
  return (service, method, code, ms) => seconds?.observe({ service, method, code }, ms / 1000);
}
