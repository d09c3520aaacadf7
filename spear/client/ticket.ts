/** Asks ticket which nodes are this user's, and for the token that lets it in there. */
import { GruError, type GruErrorCode } from "./errors.ts";
import { pause } from "./pause.ts";
import type { Claims, Json, Way } from "./wire.ts";
import { textOf } from "./text.ts";

const codes: Readonly<Record<number, GruErrorCode>> = {
  710: "invalid",
  711: "unauthorized",
  712: "busy",
};

/** @throws {GruError} */
export async function askTicket(
  { ticket, method, connectMs }: {
    readonly ticket: string;
    readonly method: string;
    readonly connectMs: number;
  },
  claims: Claims,
  token1: string,
  closed: AbortSignal,
): Promise<Way> {
  const isGet = method === "GET";
  const query = isGet ? `?${new URLSearchParams({ ...claims, token1 })}` : "";
  const attempt = new AbortController();
  const abort = () => attempt.abort();
  const { signal } = attempt;
  closed.addEventListener("abort", abort, { signal });
  void pause(connectMs, signal).then(abort);
  let answer: Json;
  let retryAfterMs;
  try {
    const response = await fetch(`${ticket.replace(/(\/ticket)?\/*$/, "/ticket")}${query}`, {
      method,
      signal,
      ...(isGet ? {} : {
        headers: { authorization: `Bearer ${token1}`, "content-type": "application/json" },
        body: JSON.stringify(claims),
      }),
    });
    retryAfterMs = Number(response.headers.get("retry-after")) * 1000 || undefined;
    answer = await response.json();
  } catch (cause) {
    const text = signal.aborted ? "no answer" : textOf(cause);
    throw new GruError("unreachable", `ticket: ${text}`, { cause });
  } finally {
    abort();
  }
  const { success, errorCode, msg, detail } = answer;
  if (success) {
    const { addr, name, token, backupNodes } = answer.data;
    return { places: [{ addr, name }, ...backupNodes], token };
  }
  throw new GruError(codes[errorCode] ?? "unavailable", `ticket: ${msg ?? detail}`, {
    retryAfterMs,
  });
}
