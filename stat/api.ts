/** stat's HTTP API, for business systems and the console. Errors are `{ "error": { "code", "message" } }`. */
import { Buffer } from "node:buffer";
import { createHash, timingSafeEqual } from "node:crypto";
import { OpenAPIHono } from "@hono/zod-openapi";
import { HTTPException } from "hono/http-exception";
import type { Logger } from "@gru/shared/log";
import { version } from "@gru/shared/node";
import { RpcError } from "@gru/shared/rpc/contract";
import { describeProblems, refuse, refuseRpc } from "./api_answers.ts";
import { addCommandRoutes } from "./api_commands.ts";
import { addReadRoutes } from "./api_read.ts";
import { nameSchema } from "./contract.ts";
import type { Operations } from "./operations.ts";

export interface ApiOptions {
  readonly operations: Operations;
  /** undefined: everyone who can reach the port may do everything. */
  readonly apiKey: string | undefined;
  /** Ends streams, which have no end of their own. */
  readonly closing: AbortSignal;
  readonly log: Logger;
}

/** Gru's route, the welcome and the description of the API: for everyone. */
const openPaths = new Set(["/", "/getGroupStat", "/openapi.json"]);
const bodyBytes = 4_100_000;

export function createApi({ operations, apiKey, closing, log }: ApiOptions): OpenAPIHono {
  const app = new OpenAPIHono({
    defaultHook: (result, c) => {
      if (result.success) return;
      const given = result.target === "json" ? undefined : c.req[result.target as "query"]();
      return refuse(400, "invalid_argument", describeProblems(result.error, given ?? {}));
    },
  });

  if (apiKey !== undefined) {
    const isKey = comparison(apiKey);
    app.use(async (c, next) => {
      if (openPaths.has(c.req.path)) return await next();
      const given = c.req.header("authorization") ?? "";
      const key = /^bearer (.*)$/i.exec(given)?.[1];
      if (key !== undefined && isKey(key)) return await next();
      const message = `Authorization: ${given === "" ? "missing" : "wrong"}; expected Bearer <key>`;
      return refuse(401, "unauthenticated", message, { "www-authenticate": "Bearer" });
    });
  }
  app.use(async (c, next) => {
    // A body that is not said to be JSON is not read.
    if (c.req.header("content-type") === undefined) return await next();
    const length = c.req.header("content-length");
    if (length === undefined) return refuse(411, "length_required", "content-length: missing");
    if (Number(length) <= bodyBytes) return await next();
    return refuse(413, "too_large", `the body: has ${length} bytes; expected ${bodyBytes} at most`);
  });

  app.get("/", (c) => c.text("Welcome to stat: GET /getGroupStat?groupId=10, GET /openapi.json\n"));
  app.get("/getGroupStat", async (c) => {
    const groupId = c.req.query("groupId") ?? "";
    if (!nameSchema.safeParse(groupId).success) {
      const given = groupId === "" ? "missing or empty" : `has ${groupId.length} characters`;
      return refuse(400, "invalid_argument", `groupId: ${given}; expected 1 to 256 characters`);
    }
    const users = await operations.store.usersOfGroup(groupId, operations.live);
    return c.json({ groupId: jsonId(groupId), userIds: users.map(jsonId).sort(ascending) });
  });
  addReadRoutes(app, operations, closing);
  addCommandRoutes(app, operations);

  app.openAPIRegistry.registerComponent("securitySchemes", "apiKey", {
    type: "http",
    scheme: "bearer",
    description: "GRU_STAT_API_KEY of the stat; without one no key is asked for",
  });
  app.doc31("/openapi.json", {
    openapi: "3.1.0",
    info: {
      title: "Gru stat",
      version,
      description: "Who is online where, and what can be done about it.",
    },
  });

  refuseOtherMethods(app);
  app.notFound((c) => refuse(404, "not_found", `${c.req.path}: no such route`));
  app.onError((error, c) => {
    if (error instanceof RpcError && error.code !== "internal") return refuseRpc(error);
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

/** Takes the same time whatever is given. */
function comparison(secret: string): (given: string) => boolean {
  const hash = (text: string): Buffer => createHash("sha256").update(text).digest();
  const expected = hash(secret);
  return (given) => timingSafeEqual(hash(given), expected);
}

/** As Gru gave ids: a JSON number, unless it is none or one that a JSON number cannot hold. */
function jsonId(id: string): number | string {
  const number = Number(id);
  return Number.isSafeInteger(number) && String(number) === id ? number : id;
}

/** Numbers first. */
function ascending(a: number | string, b: number | string): number {
  if (typeof a === "number") return typeof b === "number" ? a - b : -1;
  return typeof b === "number" ? 1 : a < b ? -1 : a > b ? 1 : 0;
}
