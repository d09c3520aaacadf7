/** What an RPC looks like in HTTP, for the server and the client alike. */
import type { z } from "zod";
import { type RpcCode, RpcError, rpcStatus } from "./contract.ts";

/**
 * The time that is left for the call, in whole milliseconds. What remains and not the moment it ends, since
 * the clocks of two machines differ; the way over the network is lost, which is little inside a cluster.
 */
export const timeoutHeader = "gru-timeout-ms";

export const maxTimeoutMs = 600_000;

export function errorText(error: RpcError): string {
  const { code, message, retryable } = error;
  return JSON.stringify({ error: { code, message, retryable } });
}

/** The error in an answer that is not 2xx, whoever wrote it. */
export function errorOf(status: number, text: string): RpcError {
  try {
    const { code, message, retryable } = JSON.parse(text).error;
    if (Object.hasOwn(rpcStatus, code) && typeof message === "string") {
      return new RpcError(code as RpcCode, message, { retryable: retryable === true });
    }
  } catch {
    // Not ours: a proxy's page, or a server that is being cut off.
  }
  return new RpcError(
    status === 503 ? "unavailable" : "internal",
    `HTTP ${status} without an RPC error: ${excerpt(text)}`,
    { retryable: false },
  );
}

/** `count: expected number to be <=10, is 11`; every problem, one after the other. */
export function problems(error: z.ZodError, value: unknown): string {
  return error.issues.map((issue) => {
    const path = issue.path.map(String);
    const message = issue.message.replace(/^Invalid (input|option): |, received \w+$/g, "");
    if (issue.code === "unrecognized_keys") {
      return `${issue.keys.map((key) => [...path, key].join(".")).join(", ")}: unknown field`;
    }
    const at = issue.path.reduce<unknown>(
      (inner, key) =>
        typeof inner === "object" && inner !== null ? Reflect.get(inner, key) : undefined,
      value,
    );
    const given = at === undefined ? "is missing" : `is ${excerpt(JSON.stringify(at))}`;
    return `${path.join(".") || "the whole"}: ${message}, ${given}`;
  }).join("; ");
}

export function excerpt(text: string): string {
  return text.length > 120 ? `${text.slice(0, 120)}…` : text;
}

/** Anything thrown, as the one error that callers see. What is unexpected is not shown to them. */
export function toRpcError(error: unknown, hidden: string): RpcError {
  return error instanceof RpcError ? error : new RpcError("internal", hidden, { cause: error });
}
