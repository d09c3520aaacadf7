/** stat's HTTP API, for business systems and the console. Errors are `{ "error": { "code", "message" } }`. */
import { Hono } from "hono";
import type { Logger } from "@gru/shared/log";
import { RpcError, rpcStatus } from "@gru/shared/rpc/contract";
import { nameSchema } from "./contract.ts";

export interface ApiOptions {
  /** Each user once, over all live nodes. Rejects with an `RpcError` while that cannot be told. */
  readonly usersOfGroup: (groupId: string) => Promise<readonly string[]>;
  readonly log: Logger;
}

export function createApi({ usersOfGroup, log }: ApiOptions): Hono {
  const app = new Hono();

  app.get("/", (c) => c.text("Welcome to stat: GET /getGroupStat?groupId=10\n"));

  app.get("/getGroupStat", async (c) => {
    const groupId = c.req.query("groupId") ?? "";
    if (!nameSchema.safeParse(groupId).success) {
      const given = groupId === "" ? "missing or empty" : `has ${groupId.length} characters`;
      return refuse(400, "invalid_argument", `groupId: ${given}; expected 1 to 256 characters`);
    }
    const userIds = (await usersOfGroup(groupId)).map(jsonId).sort(ascending);
    return c.json({ groupId: jsonId(groupId), userIds });
  });

  for (const path of ["/", "/getGroupStat"]) {
    app.all(path, (c) => {
      const message = `${c.req.method} ${path}: only GET is served`;
      return refuse(405, "method_not_allowed", message, { allow: "GET, HEAD" });
    });
  }

  app.notFound((c) => refuse(404, "not_found", `${c.req.path}: no such route`));

  app.onError((error, c) => {
    if (error instanceof RpcError) {
      return refuse(rpcStatus[error.code], error.code, error.message);
    }
    log.error("{method} {path} failed: {error}", { method: c.req.method, path: c.req.path, error });
    return refuse(500, "internal", "The request failed");
  });

  return app;
}

function refuse(status: number, code: string, message: string, headers = {}): Response {
  return Response.json({ error: { code, message } }, { status, headers });
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
