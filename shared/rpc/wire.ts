/** The form of an RPC in HTTP, for server and client. */
import type { z } from "zod";
import { type RpcCode, RpcError, rpcStatus } from "./contract.ts";

/**
 * The time that is left for the call, whole milliseconds. Not the deadline itself, since the clocks of two machines
 * differ. The time on the network is not counted; inside a cluster it is short.
 */
export const timeoutHeader = "gru-timeout-ms";

export const maxTimeoutMs = 600_000;

export function errorText(error: RpcError): string {
  const { code, message, retryable } = error;
  return JSON.stringify({ error: { code, message, retryable } });
}

/** The error of an answer that is not 200; undefined when the answer is not from this RPC, e.g. from a proxy. */
export function errorOf(status: number, text: string): RpcError | undefined {
  try {
    const { code, message, retryable } = JSON.parse(text).error;
    if (rpcStatus[code as RpcCode] === status && typeof message === "string") {
      return new RpcError(code as RpcCode, message, { retryable: retryable === true });
    }
  } catch {
    // Not ours: a proxy's page, or the answer was cut off.
  }
  return undefined;
}

/** More than any method answers. */
const maxAnswerBytes = 64 * 1024 * 1024;

/** undefined for a body beyond the limit. */
export async function readAnswer(response: Response): Promise<string | undefined> {
  const declared = Number(response.headers.get("content-length") ?? NaN);
  if (declared <= maxAnswerBytes || response.body === null) return await response.text();
  let bytes = 0;
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of response.body) {
    bytes += chunk.byteLength;
    if (bytes > maxAnswerBytes) return undefined;
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

/** Every problem in one text: `count: expected number to be <=10, is 11`. */
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

/** Turns any thrown value into the error that callers see. Details of an unexpected error are hidden. */
export function toRpcError(error: unknown, hidden: string): RpcError {
  return error instanceof RpcError ? error : new RpcError("internal", hidden, { cause: error });
}
