/**
 * The ticket office as a handler on Web APIs alone: stateless, given its nodes and its token scheme, it runs wherever
 * a `Request` becomes a `Response`.
 */
import { type Context, Hono } from "hono";
import { cors } from "hono/cors";
import { Ring, type RingNode } from "./ring.ts";
import type { TokenScheme } from "./token.ts";

export interface TicketOptions {
  /** The spear nodes of this moment; the same array while nothing has changed. */
  readonly nodes: () => readonly RingNode[];
  readonly scheme: TokenScheme;
  /** Unix milliseconds. */
  readonly now?: () => number;
  readonly onError?: (error: Error) => void;
}

/** The answer's `errorCode`; it always travels with HTTP 200. */
export const ticketCode = {
  success: 0,
  noNode: 701,
  missingParameter: 710,
  badToken: 711,
  internal: 750,
} as const;

const parameters = ["userId", "userName", "appType", "token1"] as const;

export function ticketApp(options: TicketOptions): Hono {
  const { nodes, scheme, now = Date.now } = options;
  const app = new Hono();
  let ring = new Ring([]);
  let ringNodes: readonly RingNode[] = [];

  function currentRing(): Ring {
    const latest = nodes();
    if (latest !== ringNodes) {
      ring = new Ring(latest);
      ringNodes = latest;
    }
    return ring;
  }

  app.use("/ticket", cors());

  app.get("/ticket", async (context) => {
    // A ticket is for one user and one moment.
    context.header("cache-control", "no-store");
    const [userId = "", userName = "", appType = "", token1 = ""] = parameters.map((name) =>
      context.req.query(name)
    );
    const blank = parameters.filter((name) => (context.req.query(name) ?? "").trim() === "");
    if (blank.length > 0) {
      return failure(
        context,
        ticketCode.missingParameter,
        `missing parameter: ${blank.join(", ")}`,
      );
    }
    const claims = { userId, userName, appType };
    if (!await scheme.acceptsToken1(claims, token1)) {
      return failure(context, ticketCode.badToken, "token1 is not valid");
    }
    const [own, ...backups] = currentRing().order(userId);
    if (own === undefined) {
      return failure(context, ticketCode.noNode, "no spear node is available");
    }
    return context.json({
      success: true,
      errorCode: ticketCode.success,
      msg: null,
      data: {
        time: now(),
        addr: own.addr,
        name: own.name,
        token: await scheme.issueToken2(claims, token1),
        backupNodes: backups.map(({ addr, name }) => ({ addr, name })),
      },
    });
  });
  app.all("/ticket", (context) => {
    context.header("allow", "GET, HEAD, OPTIONS");
    return context.text("method not allowed: use GET\n", 405);
  });
  app.get("/", (context) => context.text("Welcome to Gru: ask for a ticket at /ticket\n"));
  app.notFound((context) => context.text("not found\n", 404));
  app.onError((error, context) => {
    options.onError?.(error);
    return failure(context, ticketCode.internal, "internal error");
  });
  return app;
}

function failure(context: Context, errorCode: number, msg: string): Response {
  return context.json({ success: false, errorCode, msg, data: null });
}
