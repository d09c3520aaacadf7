/** The console's HTTP side: its files, sign-in, live snapshots, and stat's HTTP API for signed-in users. */
import { type Context, Hono } from "hono";
import { getCookie, setCookie } from "hono/cookie";
import { parse } from "hono/utils/cookie";
import { clientAddress } from "@gru/shared/http/client_address";
import { clientAddress as spearAddress } from "@gru/spear/contract";
import { publishBodyBytes } from "@gru/stat/contract";
import { token1 } from "@gru/server";
import { redact } from "@gru/shared/redact";
import { expectedUserId, isUserId } from "@gru/spear/identifiers";
import { readAssets } from "./assets.ts";
import type { Cluster } from "./cluster.ts";
import { Live } from "./live.ts";
import { type Operator, type Role, sessionMs, type SignIn } from "./sign_in.ts";
import { StatCalls, StatRefused, Unreachable } from "./stat_calls.ts";
import type { Vitals } from "./vitals.ts";

export interface AppOptions {
  /** Cookies ignore the port: the name separates several consoles on one host. */
  readonly name: string;
  readonly cluster: Cluster;
  readonly signIn: SignIn;
  readonly vitals: Pick<Vitals, "read">;
  /** The key of stat's HTTP API; undefined: none is needed. */
  readonly apiKey: string | undefined;
  /** Signs tokens for simulated clients; undefined: none are made. */
  readonly trialSecret?: string | undefined;
  readonly closing: AbortSignal;
  /** Unix milliseconds of the snapshots; default: this machine's clock. */
  readonly now?: () => number;
  /** Told of each attempt to sign in. */
  readonly onSignIn?: (
    result: "signed in" | "wrong" | "wait",
    address: string,
    user: string,
  ) => void;
  /** Told when a page comes, and when it goes. */
  readonly onPages?: (open: number) => void;
  /** The number of trusted proxies before the console, see {@linkcode clientAddress}. */
  readonly trustedHops: number;
}

export interface ConsoleBindings {
  /** The remote address of the connection. */
  readonly address?: string;
}

type Env = { Bindings: ConsoleBindings; Variables: { operator: Operator } };

/** Simulated clients that go on for longer get another token. */
const trialMinutes = 60;

/** The limit before sign-in: enough for a password. */
const strangerBodyBytes = 4096;

/** Simulated clients connect to spears at any address. */
const policy =
  "default-src 'self'; img-src 'self' data:; connect-src *; frame-ancestors 'none'; base-uri 'none'; " +
  "form-action 'self'";

/** The largest body of a request: for signed-in users the same as stat's. */
export function bodyBytesOf(name: string, signIn: SignIn): (request: Request) => number {
  const cookie = cookieName(name);
  return ({ headers }) => {
    const session = parse(headers.get("cookie") ?? "", cookie)[cookie];
    return signIn.roleOf(session) === undefined ? strangerBodyBytes : publishBodyBytes;
  };
}

export function minionsApp(options: AppOptions): Hono<Env> {
  const { name, cluster, signIn, apiKey, closing, trustedHops } = options;
  const app = new Hono<Env>();
  const cookie = cookieName(name);
  const stat = new StatCalls(() => addressesOf(cluster, "stat"), apiKey);
  /** Asks any live instance. */
  async function askTicket(path: string): Promise<Response> {
    const origins = addressesOf(cluster, "ticket");
    const origin = origins[Math.floor(Math.random() * origins.length)];
    if (origin === undefined) throw new Unreachable("no ticket is alive");
    try {
      return await fetch(origin + path);
    } catch (error) {
      throw new Unreachable(`ticket at ${origin} does not answer: ${(error as Error).message}`);
    }
  }
  const addressOf = (c: Context<Env>) =>
    clientAddress(c.req.header("x-forwarded-for"), c.env?.address ?? "", trustedHops);
  const live = new Live({
    cluster,
    closing,
    now: options.now,
    onPages: options.onPages,
    async ask(path) {
      const response = await stat.ask(path);
      const answer = await response.json();
      if (!response.ok) throw new StatRefused(answer.error?.message ?? `stat: ${response.status}`);
      return answer;
    },
  });

  app.use(async (c, next) => {
    // No page of another site can send this header. Together with SameSite it protects against forged requests.
    if (c.req.method !== "GET" && c.req.method !== "HEAD" && c.req.header("x-gru") !== "console") {
      return refuse(c, 403, "forbidden", "x-gru: missing; expected console");
    }
    await next();
    c.header("content-security-policy", policy);
    c.header("x-content-type-options", "nosniff");
    c.header("referrer-policy", "no-referrer");
    return undefined;
  });

  for (const [path, { text, type }] of readAssets()) {
    app.get(path, (c) => c.body(text, 200, { "content-type": type, "cache-control": "no-cache" }));
  }

  const sessionOf = (role: Role | undefined) => ({
    role: role ?? null,
    open: signIn.open,
    named: signIn.named,
    makesTokens: role === "act" && options.trialSecret !== undefined,
  });
  app.get("/session", (c) => c.json(sessionOf(signIn.roleOf(getCookie(c, cookie)))));
  app.post("/sign-in", async (c) => {
    const { password, name: user = "" } = await c.req.json().catch(() => ({}));
    for (const [field, value] of Object.entries({ password, name: user })) {
      if (typeof value !== "string" || value.length > 1000) {
        return refuse(c, 400, "invalid_argument", `${field}: expected a text`);
      }
    }
    const address = addressOf(c);
    const result = user === ""
      ? signIn.try(password, address)
      : await signIn.tryUser(user, password, address);
    options.onSignIn?.(result.outcome, address, user);
    switch (result.outcome) {
      case "wrong":
        return refuse(
          c,
          401,
          "unauthenticated",
          user === "" ? "The password is wrong" : "The name or the password is wrong",
        );
      case "wait": {
        const waitS = Math.ceil(result.waitMs / 1000);
        c.header("retry-after", `${waitS}`);
        return refuse(c, 429, "overloaded", `Too many wrong passwords: wait ${waitS} s`);
      }
      case "signed in":
        setCookie(c, cookie, result.session, {
          httpOnly: true,
          sameSite: "Strict",
          path: "/",
          maxAge: sessionMs / 1000,
          secure: c.req.header("x-forwarded-proto") === "https",
        });
        return c.json(sessionOf(result.role));
    }
  });
  app.post("/sign-out", (c) => {
    signIn.signOut(getCookie(c, cookie));
    return c.json({});
  });

  app.use(async (c, next) => {
    const operator = signIn.userOf(getCookie(c, cookie));
    if (operator === undefined) return refuse(c, 401, "unauthenticated", "Sign in first");
    c.set("operator", operator);
    return await next();
  });
  app.get("/nodes", (c) => c.json(cluster.view));
  app.get("/events", () => live.stream());
  app.get("/vitals", async (c) => c.json(await options.vitals.read()));
  // The simulated clients ask for a way in here, and read the answers as those of ticket.
  app.get("/ticket", async (c) => {
    try {
      return passOn(await askTicket("/ticket" + new URL(c.req.url).search));
    } catch (error) {
      return c.json(noTicket((error as Error).message), 503);
    }
  });
  app.get("/spears/:name/ticket", (c) => {
    const name = c.req.param("name");
    const addr = cluster.view.instances.find((one) => one.service === "spear" && one.name === name)
      ?.addresses[spearAddress];
    if (addr === undefined) return c.json(noTicket(`no spear ${name} takes clients`), 503);
    return c.json({ success: true, data: { addr, name, token: "", backupNodes: [] } });
  });
  app.post("/token", async (c) => {
    const { trialSecret } = options;
    if (c.get("operator").role !== "act" || trialSecret === undefined) {
      const message =
        "Tokens for trying need the role act, the profile dev, and GRU_TOKEN1_SECRET at the console";
      return refuse(c, 403, "forbidden", message);
    }
    const { userId } = await c.req.json().catch(() => ({}));
    if (!isUserId(userId)) {
      const is = JSON.stringify(userId)?.slice(0, 100) ?? "missing";
      return refuse(c, 400, "invalid_argument", `userId: expected ${expectedUserId}, is ${is}`);
    }
    const token = await token1({
      ...{ key: trialSecret, user: userId, name: `user${userId}`, app: "1" },
      ...{ groups: ["*"], minutes: trialMinutes },
    });
    return c.json({ token });
  });
  app.all("/api/*", async (c) => {
    const { method } = c.req;
    const { name, role } = c.get("operator");
    if (method !== "GET" && role !== "act") {
      return refuse(c, 403, "forbidden", "This needs the role act");
    }
    const { pathname, search } = new URL(c.req.url);
    const given = ["content-type", "idempotency-key"].flatMap((name): [string, string][] => {
      const value = c.req.header(name);
      return value === undefined ? [] : [[name, value]];
    });
    return passOn(
      await stat.ask(pathname.slice("/api".length) + search, {
        method,
        headers: Object.fromEntries(given),
        ...(method === "GET"
          ? {}
          : { operator: `${encodeURIComponent(name)} ${addressOf(c)}`.trim() }),
        ...(method === "GET" || method === "DELETE" ? {} : { body: await c.req.text() }),
      }),
    );
  });

  app.notFound((c) => refuse(c, 404, "not_found", `${c.req.path}: no such route`));
  app.onError((error, c) => {
    if (error instanceof Unreachable) return refuse(c, 503, "unavailable", error.message);
    throw error;
  });
  return app;
}

function noTicket(why: string) {
  const message = redact(why);
  const error = { code: "unavailable", message };
  return { success: false, errorCode: 750, msg: message, error };
}

function cookieName(name: string): string {
  return `gru_${name}`;
}

/** Streams the body as fast as the reader takes it; headers of the connection to the other side are not passed on. */
function passOn({ body, status, headers }: Response): Response {
  const type = headers.get("content-type") ?? "application/octet-stream";
  return new Response(body, {
    status,
    headers: { "content-type": type, "cache-control": "no-store" },
  });
}

function addressesOf(cluster: Cluster, service: string): string[] {
  return cluster.view.instances.flatMap((instance) =>
    instance.service === service ? instance.addresses.http ?? [] : []
  );
}

function refuse(
  c: Context,
  status: 400 | 401 | 403 | 404 | 429 | 503,
  code: string,
  message: string,
) {
  return c.json({ error: { code, message: redact(message) } }, status);
}
