/**
 * The ticket office as a handler on Web APIs alone: given its nodes and its token scheme, it runs wherever
 * a `Request` becomes a `Response`.
 */
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { cors } from "hono/cors";
import { KeyedRateLimit } from "@gru/shared/rate_limit";
import { type BalancedNode, Balancer } from "./balance.ts";
import { clientAddress } from "./client_address.ts";
import { type Claims, type Office, TokenError } from "./scheme.ts";

/** The spear nodes of this moment; the same array while nothing has changed. */
export type NodeSource = (
  /** For work that goes on after the answer; a platform may stop what it is not told of. */
  waitUntil: (work: Promise<unknown>) => void,
) => readonly BalancedNode[] | Promise<readonly BalancedNode[]>;

export interface TicketOptions {
  readonly nodes: NodeSource;
  readonly office: Office;
  /** Backups that a ticket names when its token2 is bound to nodes; else all. Default 2. */
  readonly backups?: number;
  /** See {@linkcode Balancer}. Default 1.04. */
  readonly maxOverMean?: number;
  /** Web pages that may ask: CORS. Default: all. */
  readonly origins?: readonly string[];
  /** Tickets a second; as many for ten seconds may come at once. Default: any number. */
  readonly limits?: { readonly perUser: number; readonly perAddress: number };
  /** Proxies of ours between the client and here, see {@linkcode clientAddress}. Default 0. */
  readonly trustedHops?: number;
  /** Unix milliseconds. */
  readonly now?: () => number;
  readonly onError?: (error: Error) => void;
}

/** What the platform tells of a request, as `fetch`'s second argument. */
export interface TicketBindings {
  /** The address at the other end of the connection. */
  readonly address?: string;
}

/** The answer's `errorCode`; of `GET` it always travels with HTTP 200, of `POST` in problem details. */
export const ticketCode = {
  success: 0,
  noNode: 701,
  missingParameter: 710,
  badToken: 711,
  tooMany: 712,
  internal: 750,
} as const;

interface Question {
  readonly claims: Partial<Claims>;
  readonly token1: string;
  readonly explain: boolean;
}

/** No ticket: why not. */
class Refusal extends Error {
  readonly errorCode: number;
  readonly retryAfterMs: number | undefined;

  constructor(errorCode: number, message: string, retryAfterMs?: number) {
    super(message);
    this.errorCode = errorCode;
    this.retryAfterMs = retryAfterMs;
  }
}

const maxBodyBytes = 4096;
const burstS = 10;
const maxKeys = 100_000;
const parameters = ["userId", "userName", "appType", "token1"] as const;

type Env = { readonly Bindings: TicketBindings };

export function ticketApp(options: TicketOptions): Hono<Env> {
  const { office, backups = 2, limits, origins = ["*"], now = Date.now } = options;
  const app = new Hono<Env>();
  const nowMs = () => performance.now();
  const balancer = new Balancer({ maxOverMean: options.maxOverMean ?? 1.04, nowMs });
  const limitOf = (perSecond: number | undefined) =>
    perSecond === undefined
      ? undefined
      : new KeyedRateLimit({ perSecond, burst: Math.ceil(perSecond * burstS), maxKeys });
  const perUser = limitOf(limits?.perUser);
  const perAddress = limitOf(limits?.perAddress);

  function take(limit: KeyedRateLimit | undefined, key: string, whose: string): void {
    const waitMs = limit?.take(key, nowMs()) ?? 0;
    if (waitMs > 0) {
      throw new Refusal(ticketCode.tooMany, `too many tickets for this ${whose}`, waitMs);
    }
  }

  function takeForAddress(context: Context<Env>): void {
    if (perAddress === undefined) return;
    const peer = context.env?.address ?? "";
    const forwarded = context.req.header("x-forwarded-for");
    take(perAddress, clientAddress(forwarded, peer, options.trustedHops ?? 0), "address");
  }

  /** @throws {Refusal} */
  async function ticket(context: Context<Env>, { claims, token1, explain }: Question) {
    let grant;
    try {
      grant = await office.admit(claims, token1);
    } catch (error) {
      if (!(error instanceof TokenError)) throw error;
      throw new Refusal(ticketCode.badToken, `token1 is not valid: ${error.message}`);
    }
    if (grant.userId.trim() === "") {
      throw new Refusal(ticketCode.missingParameter, "missing parameter: userId");
    }
    // Of the user only now: a stranger must not use up the tickets of others.
    take(perUser, grant.userId.slice(0, 64), "user");
    balancer.update(await options.nodes((work) => waitUntil(context, work)));
    const place = balancer.place(grant.userId);
    if (place === undefined) throw new Refusal(ticketCode.noNode, "no spear node is available");
    const [own, ...rest] = place.nodes;
    const others = office.bindsNodes ? rest.slice(0, backups) : rest;
    const names = [own, ...others].map(({ name }) => name);
    const { token, expiresAt } = await office.issue(grant, token1, names);
    return {
      time: now(),
      addr: own.addr,
      name: own.name,
      token,
      backupNodes: others.map(({ addr, name }) => ({ addr, name })),
      ...(explain
        ? { expiresAt: expiresAt ?? null, reason: { passedOver: place.passedOver } }
        : {}),
    };
  }

  app.use(
    "/ticket",
    cors({
      origin: origins.includes("*") ? "*" : [...origins],
      allowMethods: ["GET", "POST"],
      allowHeaders: ["authorization", "content-type"],
      exposeHeaders: ["retry-after", "www-authenticate"],
      maxAge: 600,
    }),
    async (context, next) => {
      // A ticket is for one user and one moment. Said beforehand, as a response is made anew for a header that comes later.
      context.header("cache-control", "no-store");
      await next();
    },
  );

  app.get("/ticket", async (context) => {
    try {
      takeForAddress(context);
      const { token1 = "", ...claims } = parametersOf(context);
      const explain = isYes(context.req.query("explain"));
      const data = await ticket(context, { claims, token1, explain });
      return context.json({ success: true, errorCode: ticketCode.success, msg: null, data });
    } catch (error) {
      const told = asRefusal(error);
      tellWhenAgain(context, told);
      const { errorCode, message } = told;
      return context.json({ success: false, errorCode, msg: message, data: null });
    }
  });

  app.post(
    "/ticket",
    bodyLimit({
      maxSize: maxBodyBytes,
      onError: (context) =>
        problem(context, 413, ticketCode.missingParameter, `body: more than ${maxBodyBytes} bytes`),
    }),
    async (context) => {
      try {
        takeForAddress(context);
        const [, token1] = /^bearer +(\S+)$/i.exec(context.req.header("authorization") ?? "") ?? [];
        if (token1 === undefined) {
          throw new Refusal(
            ticketCode.badToken,
            "expected the header Authorization: Bearer <token1>",
          );
        }
        const body = readBody(await context.req.text());
        const explain = body.explain || isYes(context.req.query("explain"));
        const data = await ticket(context, { ...body, token1, explain });
        return context.json({ success: true, errorCode: ticketCode.success, msg: null, data });
      } catch (error) {
        const told = asRefusal(error);
        tellWhenAgain(context, told);
        return problem(context, statuses[told.errorCode] ?? 500, told.errorCode, told.message);
      }
    },
  );

  function asRefusal(error: unknown): Refusal {
    if (error instanceof Refusal) return error;
    options.onError?.(error instanceof Error ? error : new Error(String(error)));
    return new Refusal(ticketCode.internal, "internal error");
  }

  app.all("/ticket", (context) => {
    context.header("allow", "GET, HEAD, POST, OPTIONS");
    return context.text("method not allowed: use GET or POST\n", 405);
  });
  app.get("/", (context) => context.text("Welcome to Gru: ask for a ticket at /ticket\n"));
  app.notFound((context) => context.text("not found\n", 404));
  app.onError((error, context) => {
    options.onError?.(error);
    return context.text("internal error\n", 500);
  });
  return app;
}

function parametersOf(context: Context): { readonly [P in typeof parameters[number]]: string } {
  const values = parameters.map((name) => [name, context.req.query(name) ?? ""] as const);
  const blank = values.filter(([, value]) => value.trim() === "").map(([name]) => name);
  if (blank.length > 0) {
    throw new Refusal(ticketCode.missingParameter, `missing parameter: ${blank.join(", ")}`);
  }
  return Object.fromEntries(values) as { [P in typeof parameters[number]]: string };
}

function isYes(value: string | undefined): boolean {
  return value !== undefined && !["", "0", "false"].includes(value);
}

/** May be empty: token1 says who it is. */
function readBody(text: string): { readonly claims: Partial<Claims>; readonly explain: boolean } {
  if (text.trim() === "") return { claims: {}, explain: false };
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw new Refusal(ticketCode.missingParameter, "body: expected JSON");
  }
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw new Refusal(ticketCode.missingParameter, "body: expected a JSON object");
  }
  const given = new Map(Object.entries(body));
  const claims: { -readonly [K in keyof Claims]?: string } = {};
  for (const key of ["userId", "userName", "appType"] as const) {
    const value = given.get(key);
    if (value === undefined) continue;
    if (typeof value !== "string" && !Number.isSafeInteger(value)) {
      throw new Refusal(ticketCode.missingParameter, `body.${key}: expected text or an integer`);
    }
    claims[key] = String(value);
  }
  return { claims, explain: given.get("explain") === true };
}

const statuses: Readonly<Record<number, 400 | 401 | 429 | 500 | 503>> = {
  [ticketCode.missingParameter]: 400,
  [ticketCode.badToken]: 401,
  [ticketCode.tooMany]: 429,
  [ticketCode.noNode]: 503,
  [ticketCode.internal]: 500,
};

const titles = {
  400: "Bad Request",
  401: "Unauthorized",
  413: "Content Too Large",
  429: "Too Many Requests",
  500: "Internal Server Error",
  503: "Service Unavailable",
} as const;

/** RFC 9457, with the `errorCode` that `GET` would give; the types have no documents behind them. */
function problem(
  context: Context,
  status: keyof typeof titles,
  errorCode: number,
  detail: string,
): Response {
  if (status === 401) {
    context.header("www-authenticate", 'Bearer realm="gru", error="invalid_token"');
  }
  const body = { type: "about:blank", title: titles[status], status, detail, errorCode };
  return context.body(JSON.stringify(body), status, { "content-type": "application/problem+json" });
}

function tellWhenAgain(context: Context, { retryAfterMs }: Refusal): void {
  if (retryAfterMs !== undefined) {
    context.header("retry-after", String(Math.ceil(retryAfterMs / 1000)));
  }
}

/** Only some platforms have it; on the others work goes on by itself. */
function waitUntil(context: Context, work: Promise<unknown>): void {
  let platform;
  try {
    platform = context.executionCtx;
  } catch {
    return;
  }
  platform.waitUntil(work);
}
