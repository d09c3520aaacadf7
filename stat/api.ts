/** stat's HTTP API, for business systems and the console. Errors are `{ "error": { "code", "message" } }`. */
import { OpenAPIHono } from "@hono/zod-openapi";
import { HTTPException } from "hono/http-exception";
import type { Logger } from "@gru/shared/log";
import { version } from "@gru/shared/node";
import { RpcError } from "@gru/shared/rpc/contract";
import { bodyHash, proofHeader, Verifier } from "@gru/shared/rpc/proof";
import { expectedGroupId } from "@gru/spear/identifiers";
import { describeProblems, refuse, refuseRpc } from "./api_answers.ts";
import { addCommandRoutes } from "./api_commands.ts";
import { addHookRoutes } from "./api_hooks.ts";
import { addReadRoutes } from "./api_read.ts";
import { nameSchema, operatorHeader, publishBodyBytes } from "./contract.ts";
import { auditCommands, remoteOf } from "./audit.ts";
import type { HooksConfig } from "./hooks/config.ts";
import type { Operations } from "./operations.ts";

export interface ApiOptions {
  readonly operations: Operations;
  /** undefined: everybody who can reach the port may do everything. */
  readonly apiKey: string | undefined;
  /** The registered address of this API; default: the request's own. */
  readonly address?: () => string;
  /** Ends streams, which otherwise never end. */
  readonly closing: AbortSignal;
  readonly hooks: HooksConfig;
  /** How long the audit log keeps a command. */
  readonly auditMs: number;
  /** See {@linkcode auditCommands}. */
  readonly onCommand?: (command: string, result: string) => void;
  /** Told of each call with a wrong key. */
  readonly onWrongKey?: (address: string) => void;
  readonly log: Logger;
}

/** The old Gru's route, the welcome and the API description: open to everybody. */
const openPaths = new Set(["/", "/getGroupStat", "/openapi.json"]);
/** Enough for a reason, a time and an id. */
const commandBodyBytes = 16_384;

/** The largest body that a route accepts. */
export function apiBodyBytes({ url }: { readonly url: string }): number {
  const { pathname } = new URL(url);
  return pathname === "/broadcast" || pathname.endsWith("/messages")
    ? publishBodyBytes
    : commandBodyBytes;
}

export function createApi(options: ApiOptions): OpenAPIHono {
  const { operations, apiKey, address, closing, hooks, log } = options;
  const app = new OpenAPIHono({
    defaultHook: (result) => {
      if (result.success) return;
      const { data } = result as { readonly data?: unknown };
      return refuse(400, "invalid_argument", describeProblems(result.error, data));
    },
  });

  /** The hash that each body must have. */
  const proven = new WeakMap<Request, string>();
  if (apiKey !== undefined) {
    const verifier = new Verifier({ key: apiKey, use: "api", callee: address, keyName: "The key" });
    app.use(async (c, next) => {
      if (openPaths.has(c.req.path)) return await next();
      const operator = c.req.header(operatorHeader);
      const verification = verifier.verify(
        c.req.raw,
        c.req.header("idempotency-key") ?? "",
        ...operator === undefined ? [] : [operator],
      );
      if (verification.bodyHash !== undefined) proven.set(c.req.raw, verification.bodyHash);
      const { refusal = "", proveAnswer } = verification;
      if (refusal === "") await next();
      else {
        const why = refusal === "outdated" || refusal === "used" ? verification.message : refusal;
        const message = `Authorization: ${why}; expected Bearer <key>`;
        c.res = refuse(401, "unauthenticated", message, { "www-authenticate": "Bearer" });
        if (refusal === "wrong") options.onWrongKey?.(remoteOf(c));
      }
      // The body may be an endless stream, so the answer's proof covers its head only.
      if (proveAnswer !== undefined) c.header(proofHeader, proveAnswer(c.res.status));
      return undefined;
    });
  }
  app.use(async (c, next) => {
    // A body without a content type is not read.
    if (c.req.header("content-type") === undefined) return await next();
    const length = c.req.header("content-length");
    if (length === undefined) return refuse(411, "length_required", "content-length: missing");
    const most = apiBodyBytes(c.req.raw);
    if (Number(length) <= most) {
      const hash = proven.get(c.req.raw);
      if (hash === undefined || hash === bodyHash(await c.req.text())) return await next();
      return refuse(
        401,
        "unauthenticated",
        "the body: is not the body that the proof was made for",
      );
    }
    return refuse(413, "too_large", `the body: has ${length} bytes; expected ${most} at most`);
  });

  app.use(auditCommands({
    ...{ store: operations.store, keepMs: options.auditMs, keyed: apiKey !== undefined, log },
    onCommand: options.onCommand,
  }));

  app.get("/", (c) => c.text("Welcome to stat: GET /getGroupStat?groupId=10, GET /openapi.json\n"));
  app.get("/getGroupStat", async (c) => {
    const [groupId = "", ...more] = c.req.queries("groupId") ?? [];
    if (more.length > 0) return refuse(400, "invalid_argument", "groupId: is given more than once");
    if (!nameSchema.safeParse(groupId).success) {
      const given = groupId === "" ? "missing or empty" : `has ${groupId.length} characters`;
      return refuse(400, "invalid_argument", `groupId: ${given}; expected 1 to 256 characters`);
    }
    // As in the old Gru, an id that cannot be a group's is a group without users. Only these two ids were valid before.
    if (groupId === "." || groupId === "..") {
      return refuse(
        400,
        "invalid_argument",
        `groupId: expected ${expectedGroupId}, is "${groupId}"`,
      );
    }
    const users = await operations.store.usersOfGroup(groupId, operations.live);
    return c.json({ groupId: jsonId(groupId), userIds: users.map(jsonId).sort(ascending) });
  });
  addReadRoutes(app, operations, closing);
  addCommandRoutes(app, operations);
  addHookRoutes(app, { outbox: operations.store.outbox, hooks, closing });

  app.openAPIRegistry.registerComponent("securitySchemes", "apiKey", {
    type: "http",
    scheme: "bearer",
    description: "stat's GRU_STAT_API_KEY; if none is set, no key is needed",
  });
  app.doc31("/openapi.json", {
    openapi: "3.1.0",
    info: {
      title: "Gru stat",
      version,
      description:
        "Shows which users are online on which nodes, and executes commands: publish, kick, ban, drain.",
    },
  });

  refuseOtherMethods(app);
  app.notFound((c) => refuse(404, "not_found", `${c.req.path}: no such route`));
  app.onError((error, c) => {
    if (error instanceof RpcError && error.code !== "internal") return refuseRpc(error);
    if (error instanceof HTTPException && error.status === 415) {
      const type = JSON.stringify((c.req.header("content-type") ?? "").slice(0, 120));
      const message = `the body: content-type is ${type}; expected application/json`;
      return refuse(415, "invalid_argument", message);
    }
    if (error instanceof HTTPException) {
      return refuse(error.status, "invalid_argument", `the body: ${error.message}`);
    }
    log.error("{method} {path} failed: {error}", { method: c.req.method, path: c.req.path, error });
    return refuse(500, "internal", "The request failed");
  });
  return app;
}

function refuseOtherMethods(app: OpenAPIHono): void {
  const methods = new Map<string, Set<string>>();
  for (const { path, method } of app.routes) {
    if (method === "ALL") continue;
    const known = methods.getOrInsertComputed(path, () => new Set());
    known.add(method);
    if (method === "GET") known.add("HEAD");
  }
  for (const [path, known] of methods) {
    const allow = [...known].sort().join(", ");
    app.all(path, (c) => {
      const message = `${c.req.method} ${c.req.path}: only ${allow} is served`;
      return refuse(405, "method_not_allowed", message, { allow });
    });
  }
}

/** Ids as in the old Gru: a JSON number, unless the id is not a number or a JSON number cannot hold it. */
function jsonId(id: string): number | string {
  const number = Number(id);
  return Number.isSafeInteger(number) && String(number) === id ? number : id;
}

/** Numbers first. */
function ascending(a: number | string, b: number | string): number {
  if (typeof a === "number") return typeof b === "number" ? a - b : -1;
  return typeof b === "number" ? 1 : a < b ? -1 : a > b ? 1 : 0;
}
