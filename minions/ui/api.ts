/** Calls to the console's own server, which passes `/api` on to stat, and the shapes of the answers. */
import type { z } from "zod";
import type * as shape from "@gru/stat/api_schemas";

/** `Answer<"presence">`: by the name that the shape has in stat's HTTP API. */
export type Answer<Name extends keyof typeof shape> = (typeof shape)[Name] extends z.ZodType
  ? z.output<(typeof shape)[Name]>
  : never;

export interface Session {
  /** null: not signed in. */
  readonly role: "look" | "act" | null;
  /** There is no password, so nothing to sign out of. */
  readonly open: boolean;
}

/** Told to the window when the server does not know this session any more. */
export const signedOut = "signed-out";

/** @throws {Error} with the server's own message when the answer is not 2xx. */
export async function call<T>(
  method: "GET" | "POST" | "DELETE",
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
  throw new Error(answer.error?.message ?? `HTTP ${response.status}`);
}

export function get<T>(path: string): Promise<T> {
  return call("GET", path);
}

/** A name as one part of a path of stat's HTTP API. */
export function apiPath(...names: readonly string[]): string {
  return ["/api", ...names.map(encodeURIComponent)].join("/");
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
