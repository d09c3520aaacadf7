/**
 * The ticket service as a handler on Web APIs only. It needs a source of nodes and a token scheme, and runs wherever a
 * `Request` becomes a `Response`.
 */
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { cors } from "hono/cors";
import { clientAddress } from "@gru/shared/http/client_address";
import { KeyedRateLimit } from "@gru/shared/rate_limit";
import { AskError } from "@gru/shared/webhooks/ask";
import { expectedUserId, userIdPattern } from "@gru/spear/identifiers";
import { type BalancedNode, Balancer, type PassedOver } from "./balance.ts";
import { clientModuleRoute } from "./client_module.ts";
import {
  type Claims,
  expectedAffinity,
  type Grant,
  isAffinity,
  type Issuer,
  NotAdmittedError,
  TokenError,
} from "./scheme.ts";

/** The present spear nodes. Returns the same array while nothing has changed. */
export type NodeSource = (
  /** Keeps the platform from stopping work that continues after the response. */
  waitUntil: (work: Promise<unknown>) => void,
) => readonly BalancedNode[] | Promise<readonly BalancedNode[]>;

export interface TicketOptions {
  readonly nodes: NodeSource;
  readonly issuer: Issuer;
  /** How many backups a ticket names when its token2 is bound to nodes; otherwise it names all. Default 2. */
  readonly backups?: number;
  /** See {@linkcode Balancer}. Default 1.04. */
  readonly maxOverMean?: number;
  /** Origins of the web pages that may ask for tickets (CORS). Default: all. */
  readonly origins?: readonly string[];
  /** Tickets per second. A burst of up to ten seconds' worth is allowed. Default: no limit. */
  readonly limits?: { readonly perUser: number; readonly perAddress: number };
  /** The number of trusted proxies between the client and this program, see {@linkcode clientAddress}. Default 0. */
  readonly trustedHops?: number;
  /** Unix milliseconds. */
  readonly now?: () => number;
  readonly onError?: (error: Error) => void;
  /** Told of each answer, with its {@linkcode ticketCode} and how many seconds it took. */
  readonly onAnswer?: (code: number, seconds: number) => void;
  /** Told of each node that a user did not get though it comes first in the user's order. */
  readonly onPassedOver?: (why: PassedOver) => void;
}

/** What the platform passes as `fetch`'s second argument. */
export interface TicketBindings {
  /** The remote address of the connection. */
  readonly address?: string;
}

/** The answer's `errorCode`. `GET` sends it with HTTP 200, `POST` in problem details. */
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
  /** Where token1 says nothing else. */
  readonly affinity: string | undefined;
  readonly token1: string;
  readonly explain: boolean;
}

/** The reason why no ticket is issued. */
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
/** A client whose admission could not be decided tries again then. */
const undecidedMs = 1000;
const maxKeys = 100_000;
const parameters = ["userId", "userName", "appType", "token1"] as const;

type Env = { readonly Bindings: TicketBindings };

export function ticketApp(options: TicketOptions): Hono<Env> {
  const { issuer, backups = 2, limits, origins = ["*"], now = Date.now } = options;
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
  async function ticket(context: Context<Env>, { claims, affinity, token1, explain }: Question) {
    requireUserId(claims.userId);
    if (affinity !== undefined && !isAffinity(affinity)) {
      throw new Refusal(
        ticketCode.missingParameter,
        `parameter affinity: expected ${expectedAffinity}`,
      );
    }
    let grant: Grant;
    try {
      grant = await issuer.admit(claims, token1);
    } catch (error) {
      if (error instanceof NotAdmittedError) {
        throw new Refusal(ticketCode.badToken, `not admitted: ${error.message}`);
      }
      // Counted and reported by the one who asks, and not for each client.
      if (error instanceof AskError) {
        throw new Refusal(ticketCode.internal, "it cannot be decided now", undecidedMs);
      }
      if (!(error instanceof TokenError)) throw error;
      throw new Refusal(ticketCode.badToken, `token1 is not valid: ${error.message}`);
    }
    if (grant.userId === "") {
      throw new Refusal(ticketCode.missingParameter, "missing parameter: userId");
    }
    // Counted for the user only after the token was verified: a stranger must not use up another user's tickets.
    take(perUser, grant.userId.slice(0, 64), "user");
    balancer.update(await options.nodes((work) => waitUntil(context, work)));
    if (affinity !== undefined) grant = { affinity, ...grant };
    const place = balancer.place(
      grant.affinity ?? grant.userId,
      issuer.bindsNodes ? backups : Infinity,
    );
    if (place === undefined) throw new Refusal(ticketCode.noNode, "no spear node is available");
    for (const { why } of place.passedOver) options.onPassedOver?.(why);
    const [own, ...others] = place.nodes;
    const names = [own, ...others].map(({ name }) => name);
    const { token, expiresAt } = await issuer.issue(grant, token1, names);
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

  function answer(): (code: number) => void {
    const startedAt = nowMs();
    return (code) => options.onAnswer?.(code, (nowMs() - startedAt) / 1000);
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
      // A ticket is for one user and one moment. Set before the body, because a later header would rebuild the
      // response.
      context.header("cache-control", "no-store");
      await next();
    },
  );

  app.get("/ticket", async (context) => {
    const answered = answer();
    try {
      takeForAddress(context);
      const { token1 = "", ...claims } = parametersOf(context);
      const explain = isYes(context.req.query("explain"));
      // Blank as if it were missing.
      const affinity = context.req.query("affinity") || undefined;
      const data = await ticket(context, { claims, affinity, token1, explain });
      answered(ticketCode.success);
      return context.json({ success: true, errorCode: ticketCode.success, msg: null, data });
    } catch (error) {
      const refused = asRefusal(error);
      answered(refused.errorCode);
      setRetryAfter(context, refused);
      const { errorCode, message } = refused;
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
      const answered = answer();
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
        answered(ticketCode.success);
        return context.json({ success: true, errorCode: ticketCode.success, msg: null, data });
      } catch (error) {
        const refused = asRefusal(error);
        answered(refused.errorCode);
        setRetryAfter(context, refused);
        return problem(
          context,
          statuses[refused.errorCode] ?? 500,
          refused.errorCode,
          refused.message,
        );
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
  app.route("/", clientModuleRoute());
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

/**
 * A ticket for such an id is useless, because spear rejects it. Code 710, like a blank parameter: the request is wrong,
 * and a new token does not help.
 * @throws {Refusal}
 */
function requireUserId(userId: string | undefined): void {
  if (userId === undefined || userId === "" || userIdPattern.test(userId)) return;
  const given = JSON.stringify(userId.slice(0, 80));
  throw new Refusal(
    ticketCode.missingParameter,
    `parameter userId: expected ${expectedUserId}, got ${given}`,
  );
}

function isYes(value: string | undefined): boolean {
  return value !== undefined && !["", "0", "false"].includes(value);
}

/** The body may be empty, because token1 names the user. */
function readBody(text: string): Omit<Question, "token1"> {
  if (text.trim() === "") return { claims: {}, affinity: undefined, explain: false };
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
  const textOf = (key: string) => {
    const value: unknown = given.get(key);
    if (value === undefined || typeof value === "string") return value;
    if (Number.isSafeInteger(value)) return String(value);
    throw new Refusal(ticketCode.missingParameter, `body.${key}: expected text or an integer`);
  };
  const claims: { -readonly [K in keyof Claims]?: string } = {};
  for (const key of ["userId", "userName", "appType"] as const) {
    const value = textOf(key);
    if (value !== undefined) claims[key] = value;
  }
  return {
    claims,
    affinity: textOf("affinity") || undefined,
    explain: given.get("explain") === true,
  };
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

/** Problem details (RFC 9457) with the `errorCode` that `GET` would send. Their types have no documents. */
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

function setRetryAfter(context: Context, { retryAfterMs }: Refusal): void {
  if (retryAfterMs !== undefined) {
    context.header("retry-after", String(Math.ceil(retryAfterMs / 1000)));
  }
}

/** Only some platforms offer it. On the others such work continues by itself. */
function waitUntil(context: Context, work: Promise<unknown>): void {
  let platform;
  try {
    platform = context.executionCtx;
  } catch {
    return;
  }
  platform.waitUntil(work);
}
