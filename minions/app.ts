/** The console's HTTP side: its files, sign-in, live snapshots, and stat's HTTP API for those who are signed in. */
import { type Context, Hono } from "hono";
import { getCookie, setCookie } from "hono/cookie";
import { readAssets } from "./assets.ts";
import type { Cluster } from "./cluster.ts";
import { Live } from "./live.ts";
import { type Role, sessionMs, type SignIn } from "./sign_in.ts";

export interface AppOptions {
  /** Cookies know no ports: the name keeps several consoles on one host apart. */
  readonly name: string;
  readonly cluster: Cluster;
  readonly signIn: SignIn;
  /** Of stat's HTTP API; undefined: no key is needed. */
  readonly apiKey: string | undefined;
  readonly closing: AbortSignal;
}

type Env = { Variables: { role: Role } };

/** Simulated clients connect to spears, wherever those are. */
const policy =
  "default-src 'self'; img-src 'self' data:; connect-src *; frame-ancestors 'none'; base-uri 'none'; " +
  "form-action 'self'";

export function minionsApp({ name, cluster, signIn, apiKey, closing }: AppOptions): Hono<Env> {
  const app = new Hono<Env>();
  const cookie = `gru_${name}`;
  const key = apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };

  /** Of any live instance. */
  async function ask(service: string, path: string, init: RequestInit = {}): Promise<Response> {
    const origin = addressOf(cluster, service);
    if (origin === undefined) throw new Unreachable(`no ${service} is alive`);
    try {
      return await fetch(origin + path, init);
    } catch (error) {
      throw new Unreachable(`${service} at ${origin} does not answer: ${(error as Error).message}`);
    }
  }
  async function askStat(path: string, init: RequestInit = {}): Promise<Response> {
    const response = await ask("stat", path, { ...init, headers: { ...init.headers, ...key } });
    if (response.status !== 401) return response;
    await response.body?.cancel();
    throw new Unreachable("stat refuses the key of this console: GRU_STAT_API_KEY");
  }
  const live = new Live({
    cluster,
    closing,
    async ask(path) {
      const response = await askStat(path);
      const answer = await response.json();
      if (!response.ok) throw new Unreachable(answer.error?.message ?? `stat: ${response.status}`);
      return answer;
    },
  });

  app.use(async (c, next) => {
    // Without a password the name of the host is what keeps other people's pages out (DNS rebinding).
    if (signIn.open && !isLoopbackName(new URL(c.req.url).hostname)) {
      return refuse(
        c,
        403,
        "forbidden",
        `Host: is ${c.req.header("host")}; without a password ` +
          "the console is served on this machine only",
      );
    }
    // No other site's page can send this header; together with SameSite that is the guard against forged requests.
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

  app.get(
    "/session",
    (c) => c.json({ role: signIn.roleOf(getCookie(c, cookie)) ?? null, open: signIn.open }),
  );
  app.post("/sign-in", async (c) => {
    const { password } = await c.req.json().catch(() => ({}));
    if (typeof password !== "string" || password.length > 1000) {
      return refuse(c, 400, "invalid_argument", "password: expected a text");
    }
    const result = signIn.try(password);
    switch (result.outcome) {
      case "wrong":
        return refuse(c, 401, "unauthenticated", "The password is wrong");
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
        return c.json({ role: result.role, open: false });
    }
  });
  app.post("/sign-out", (c) => {
    signIn.signOut(getCookie(c, cookie));
    return c.json({});
  });

  app.use(async (c, next) => {
    const role = signIn.roleOf(getCookie(c, cookie));
    if (role === undefined) return refuse(c, 401, "unauthenticated", "Sign in first");
    c.set("role", role);
    return await next();
  });
  app.get("/nodes", (c) => c.json(cluster.view));
  app.get("/events", () => live.stream());
  app.get(
    "/ticket",
    async (c) => passOn(await ask("ticket", "/ticket" + new URL(c.req.url).search)),
  );
  app.all("/api/*", async (c) => {
    const { method } = c.req;
    if (method !== "GET" && c.get("role") !== "act") {
      return refuse(c, 403, "forbidden", "This needs the role act");
    }
    const { pathname, search } = new URL(c.req.url);
    const given = ["content-type", "idempotency-key"].flatMap((name): [string, string][] => {
      const value = c.req.header(name);
      return value === undefined ? [] : [[name, value]];
    });
    return passOn(
      await askStat(pathname.slice("/api".length) + search, {
        method,
        headers: Object.fromEntries(given),
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

class Unreachable extends Error {
  override readonly name = "Unreachable";
}

/** The body flows as the reader takes it; what concerns the connection to the other side stays there. */
function passOn({ body, status, headers }: Response): Response {
  const type = headers.get("content-type") ?? "application/octet-stream";
  return new Response(body, {
    status,
    headers: { "content-type": type, "cache-control": "no-store" },
  });
}

function addressOf(cluster: Cluster, service: string): string | undefined {
  const addresses = cluster.view.instances.flatMap((instance) =>
    instance.service === service ? instance.addresses.http ?? [] : []
  );
  return addresses[Math.floor(Math.random() * addresses.length)];
}

function isLoopbackName(host: string): boolean {
  return host === "localhost" || host === "[::1]" || /^127(\.\d+){3}$/.test(host);
}

function refuse(
  c: Context,
  status: 400 | 401 | 403 | 404 | 429 | 503,
  code: string,
  message: string,
) {
  return c.json({ error: { code, message } }, status);
}
