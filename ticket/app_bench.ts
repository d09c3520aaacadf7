/**
 * Tickets per second on one core, with and without tokens, compared with a bare handler. First the handler is called
 * directly, without sockets; then over HTTP in a process of its own (the bare handlers on `Deno.serve`, the tickets on
 * ticket's own server). `deno task bench:ticket [seconds]`.
 */
import { Hono } from "hono";
import { SignJWT } from "jose";
import { serveHttp } from "@gru/shared/http/serve";
import { ticketApp } from "./app.ts";
import { issuer, type IssuerConfig } from "./token.ts";

/** `--serve <candidate> <public key>`: run as that server and print its port. */
const [first = "3", served = "", servedKey] = Deno.args;
const seconds = Number(first);
const underWay = 32;
/** Over HTTP. The requests of a connection are pipelined, so that the client costs almost nothing. */
const connections = 4;
const secret = "business-secret-of-32-characters!";
const common = { token1: { secret, skewMs: 5000 }, token2Ms: 30_000, rightsMs: 3_600_000 };
const token2Secret = "our-own-secret-of-32-characters-!";
const keyPair = await crypto.subtle.generateKey(
  { name: "ECDSA", namedCurve: "P-256" },
  true,
  ["sign", "verify"],
);
const publicKey = servedKey ??
  `-----BEGIN PUBLIC KEY-----\n${
    new Uint8Array(await crypto.subtle.exportKey("spki", keyPair.publicKey)).toBase64()
  }\n-----END PUBLIC KEY-----`;

const nodes = Array.from({ length: 10 }, (_, i) => ({
  name: `spear${i + 1}`,
  addr: `http://10.0.0.${i + 1}:31001`,
  load: 1_000_000,
}));

type Handler = (request: Request) => Response | Promise<Response>;

function handlerOf(config: IssuerConfig): Handler {
  const app = ticketApp({ nodes: () => nodes, issuer: issuer(config), backups: 2 });
  return (request) => app.fetch(request);
}

async function tokens(alg: "HS256" | "ES256"): Promise<string[]> {
  const key = alg === "HS256" ? new TextEncoder().encode(secret) : keyPair.privateKey;
  return await Promise.all(
    Array.from(
      { length: 1000 },
      (_, i) =>
        new SignJWT({ name: "Ann", app: "1", groups: [[1, 99], "room:*"] })
          .setProtectedHeader({ alg }).setSubject(`${i + 1}`).setExpirationTime("1h").sign(key),
    ),
  );
}

const hs = await tokens("HS256");
const es = await tokens("ES256");
const bare = JSON.stringify({ success: true });

const hono = new Hono().get("/ticket", (context) => context.json({ success: true }));

const candidates: Record<string, { handler: Handler; token1: readonly string[] }> = {
  "a bare Hono handler": { handler: (request) => hono.fetch(request), token1: hs },
  "a bare handler, no Hono": {
    handler: () => new Response(bare, { headers: { "content-type": "application/json" } }),
    token1: hs,
  },
  "scheme open: routing and the ring": {
    handler: handlerOf({ ...common, scheme: "open" }),
    token1: hs,
  },
  "scheme jwt, HS256 checked, token2 signed": {
    handler: handlerOf({ ...common, scheme: "jwt", token2Secret }),
    token1: hs,
  },
  "scheme jwt, ES256 checked, token2 signed": {
    handler: handlerOf({
      ...common,
      scheme: "jwt",
      token2Secret,
      token1: { publicKey, skewMs: 5000 },
    }),
    token1: es,
  },
};

function urlsOf(origin: string, list: readonly string[]): string[] {
  return list.map((token1, i) =>
    `${origin}/ticket?userId=${i + 1}&userName=Ann&appType=1&token1=${token1}`
  );
}

/**
 * Requests per second of `atOnce` parallel loops. Each loop sends one batch after the other; `send` returns how many
 * were answered.
 */
async function rate(atOnce: number, send: (i: number) => Promise<number>): Promise<number> {
  let [begun, done] = [0, 0];
  const measure = async (ms: number) => {
    const until = performance.now() + ms;
    done = 0;
    const worker = async () => {
      while (performance.now() < until) {
        const answered = await send(begun++);
        done += answered;
      }
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
  };
  await measure(500);
  const began = performance.now();
  await measure(seconds * 1000);
  return done / (performance.now() - began) * 1000;
}

async function table(
  title: string,
  rateOf: (
    name: string,
    candidate: { handler: Handler; token1: readonly string[] },
  ) => Promise<number>,
): Promise<void> {
  const rows: (readonly [string, number])[] = [];
  for (const [name, candidate] of Object.entries(candidates)) {
    rows.push([name, await rateOf(name, candidate)]);
  }
  const bareRate = rows[0]?.[1] ?? 1;
  // deno-lint-ignore no-console
  const print = (line: string) => console.log(line);
  print(`\n${title.padEnd(46)}${"per second".padStart(12)}${"ratio".padStart(8)}`);
  for (const [name, perSecond] of rows) {
    print(
      `${name.padEnd(46)}${perSecond.toFixed(0).padStart(12)}${
        (perSecond / bareRate).toFixed(2).padStart(8)
      }`,
    );
  }
}

/** A connection that pipelines many requests and only counts the answers. */
class Asker implements Disposable {
  readonly #connection: Deno.TcpConn;
  readonly #buffer = new Uint8Array(65_536);

  constructor(connection: Deno.TcpConn) {
    this.#connection = connection;
  }

  async ask(requests: Uint8Array, count: number): Promise<number> {
    for (let at = 0; at < requests.length;) {
      at += await this.#connection.write(requests.subarray(at));
    }
    let text = "";
    for (let answered = 0; answered < count;) {
      const length = await this.#connection.read(this.#buffer);
      if (length === null) throw new Error("the server closed the connection");
      // An answer split over two reads is counted with the second one.
      text += decoder.decode(this.#buffer.subarray(0, length));
      if (text.includes('"success":false')) throw new Error("no ticket");
      const pieces = text.split('"success":true');
      answered += pieces.length - 1;
      text = (pieces.at(-1) ?? "").slice(-16);
    }
    return count;
  }

  [Symbol.dispose](): void {
    this.#connection.close();
  }
}

const decoder = new TextDecoder();

async function overHttp(name: string, token1: readonly string[]): Promise<number> {
  const child = new Deno.Command("deno", {
    args: [
      ...["run", "--no-prompt", "--allow-net=127.0.0.1", import.meta.filename ?? ""],
      ...["--serve", name, publicKey],
    ],
    stdout: "piped",
  }).spawn();
  const lines = child.stdout.getReader();
  try {
    const port = Number(decoder.decode((await lines.read()).value));
    const urls = urlsOf("", token1);
    const each = underWay / connections;
    const requests = Array.from({ length: urls.length / each }, (_, i) =>
      new TextEncoder().encode(
        urls.slice(i * each, (i + 1) * each)
          .map((url) => `GET ${url} HTTP/1.1\r\nhost: ticket\r\n\r\n`).join(""),
      ));
    using stack = new DisposableStack();
    const free: Asker[] = [];
    for (let i = 0; i < connections; i++) {
      free.push(stack.use(new Asker(await Deno.connect({ hostname: "127.0.0.1", port }))));
    }
    return await rate(connections, async (i) => {
      const asker = free.pop() as Asker;
      const count = await asker.ask(requests[i % requests.length] ?? new Uint8Array(), each);
      free.push(asker);
      return count;
    });
  } finally {
    child.kill("SIGKILL");
    await child.status;
    await lines.cancel();
  }
}

if (first === "--serve") {
  const { handler } = candidates[served] ?? {};
  if (handler === undefined) throw new TypeError(`--serve: no candidate ${served}`);
  const host = "127.0.0.1";
  const port = served.startsWith("a bare")
    ? Deno.serve({ hostname: host, port: 0, onListen: () => {} }, handler).addr.port
    : (await serveHttp({ host, port: 0, handler, http2: false })).port;
  // deno-lint-ignore no-console
  console.log(port);
} else {
  await table("straight into the handler", (_name, { handler, token1 }) => {
    const urls = urlsOf("http://ticket", token1);
    return rate(underWay, async (i) => {
      const response = await handler(new Request(urls[i % urls.length] ?? ""));
      if (!(await response.text()).includes('"success":true')) throw new Error("no ticket");
      return 1;
    });
  });
  await table(
    "over HTTP/1.1, from a process of its own",
    (name, { token1 }) => overHttp(name, token1),
  );
}
