/**
 * The audit log: who commanded what over the HTTP API, on whom, and how it ended, and who came with a wrong key. Kept in
 * the store, so that every stat shows all of it, and written to the program's log as well, for when the store is away.
 */
import type { Logger } from "@gru/shared/log";
import type { WrongKeys } from "@gru/shared/wrong_keys";
import type { Context, MiddlewareHandler } from "hono";
import { routePath } from "hono/route";
import { operatorHeader } from "./contract.ts";
import type { AuditEntry, StatStore } from "./store.ts";

/** More are not kept, however young they are: about 5 MB. */
export const auditEntriesKept = 10_000;
const detailsLength = 500;

export interface AuditLog {
  readonly store: Pick<StatStore, "audit">;
  readonly keepMs: number;
  readonly log: Logger;
}

export interface AuditOptions extends AuditLog {
  /** Callers show a key. */
  readonly keyed: boolean;
  /** Told of each command with its route, `POST /users/:userId/kick`, and `ok` or the status of the refusal. */
  readonly onCommand: ((command: string, result: string) => void) | undefined;
}

/** Notes each call of a route that changes something. */
export function auditCommands(options: AuditOptions): MiddlewareHandler {
  return async (c, next) => {
    // Of messages, only those by people at the console: business systems may send thousands a second.
    const operator = c.req.header(operatorHeader);
    const body = isCommand(c.req.method) ? await bodyOf(c) : "";
    await next();
    // Only the API's own routes: anybody can think up paths.
    const route = routePath(c, -1);
    if (!isCommand(c.req.method) || route.includes("*") || c.res.status === 405) return;
    const command = `${c.req.method} ${route}`;
    const result = c.res.ok ? "ok" : `${c.res.status}`;
    // It only reads.
    if (route === "/presence") return;
    options.onCommand?.(command, result);
    if (route.endsWith("/messages") && operator === undefined) return;
    await note(options, {
      ...callerOf(c, operator, options.keyed),
      command,
      target: targetOf(c, route),
      details: detailsOf(body),
      result,
    });
  };
}

/** Wrong keys of this API, or wrong passwords at a console. */
export function noteWrongKeys(
  audit: AuditLog,
  via: "api" | "console",
  { who, address, count }: WrongKeys,
): Promise<void> {
  const command = via === "api" ? "wrong key" : "wrong password";
  const details = JSON.stringify({ count });
  return note(audit, { via, who, address, command, target: "", details, result: "401" });
}

async function note(
  { store, keepMs, log }: AuditLog,
  entry: Omit<AuditEntry, "at">,
): Promise<void> {
  log.info("{who} at {address}: {command} {target} {details}: {result}", { ...entry });
  try {
    await store.audit(entry, { keepMs, most: auditEntriesKept });
  } catch (error) {
    log.warn("this command is not in the audit log: {error}", { error });
  }
}

function callerOf(c: Context, operator: string | undefined, keyed: boolean) {
  const remote = remoteOf(c);
  const [name, address = remote] = (operator ?? "").split(" ");
  if (name !== undefined && name !== "") {
    return {
      via: "console",
      who: decoded(name).slice(0, 100),
      address: address.slice(0, 100),
    } as const;
  }
  return { via: "api", who: keyed ? "GRU_STAT_API_KEY" : "anybody", address: remote } as const;
}

/** The other end of the connection. */
export function remoteOf({ env }: Context): string {
  return String((env as { address?: string } | undefined)?.address ?? "");
}

/** The ids in the path, in its order. */
function targetOf(c: Context, route: string): string {
  const names = [...route.matchAll(/:(\w+)/g)].map(([, name = ""]) => name);
  return names.map((name) => c.req.param(name) ?? "").join(" ");
}

/** Hono keeps what was read: the route reads it again. */
async function bodyOf(c: Context): Promise<string> {
  if (c.req.header("content-type") === undefined) return "";
  const length = Number(c.req.header("content-length"));
  return length <= detailsLength ? await c.req.text() : `${length} bytes`;
}

/** The arguments of a command, without the content of messages, which is nobody's business here. */
function detailsOf(body: string): string {
  if (body === "") return "";
  try {
    const { content, ...others } = JSON.parse(body);
    const shown = content === undefined
      ? others
      : { ...others, characters: String(content).length };
    return JSON.stringify(shown);
  } catch {
    return body.startsWith("{") ? "" : body;
  }
}

function isCommand(method: string): boolean {
  return method === "POST" || method === "DELETE" || method === "PUT";
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
