/** Calls to the console's own server, which forwards `/api` to stat, and the shapes of the answers. */
import type { z } from "zod";
import type * as shape from "@gru/stat/api_schemas";
import { t } from "./words.ts";

/** `Answer<"presence">`: the shape with this name in stat's HTTP API. */
export type Answer<Name extends keyof typeof shape> = (typeof shape)[Name] extends z.ZodType
  ? z.output<(typeof shape)[Name]>
  : never;

export interface Session {
  /** null: not signed in. */
  readonly role: "look" | "act" | null;
  /** There is no password, so there is nothing to sign out of. */
  readonly open: boolean;
  /** There are users with names of their own. */
  readonly named: boolean;
  /** The console can make a token for a simulated client. */
  readonly makesTokens: boolean;
}

/** An event of the window: the server does not know this session any more. */
export const signedOut = "signed-out";

/** @throws {Error} with the server's own message when the answer is not 2xx; that Redis is away is said in plain words. */
export async function call<T>(
  method: "GET" | "POST" | "PUT" | "DELETE",
  path: string,
  body?: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<T> {
  const response = await fetch(path, {
    method,
    headers: {
      ...(method === "GET" ? {} : { "x-gru": "console" }),
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  if (response.status === 401) dispatchEvent(new Event(signedOut));
  const { code, message = `HTTP ${response.status}` } = answer.error ?? {};
  throw new Error(
    code === "unavailable" && message.startsWith("Redis:") ? t("withoutRedis") : message,
  );
}

export function get<T>(path: string): Promise<T> {
  return call("GET", path);
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
