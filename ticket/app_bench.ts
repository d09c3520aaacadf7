/**
 * Tickets a second on one core: with a token checked and one signed, beside the handler without tokens and beside a bare
 * one. Straight into the handler, no sockets; then over HTTP with as many requests under way.
 */
import { SignJWT } from "jose";
import { servePublic } from "@gru/shared/serve_public";
import { ticketApp } from "./app.ts";
import { office, type OfficeConfig } from "./token.ts";

const seconds = Number(Deno.args[0] ?? 3);
const underWay = 32;
const secret = "business-secret-of-32-characters!";
const common = { token1: { secret, skewMs: 5000 }, token2Ms: 30_000, rightsMs: 3_600_000 };
const token2Secret = "our-own-secret-of-32-characters-!";
const keyPair = await crypto.subtle.generateKey(
  { name: "ECDSA", namedCurve: "P-256" },
  true,
  ["sign", "verify"],
);
const publicKey = `-----BEGIN PUBLIC KEY-----\n${
  new Uint8Array(await crypto.subtle.exportKey("spki", keyPair.publicKey)).toBase64()
}\n-----END PUBLIC KEY-----`;

const nodes = Array.from({ length: 10 }, (_, i) => ({
  name: `spear${i + 1}`,
  addr: `http://10.0.0.${i + 1}:31001`,
  load: 1_000_000,
}));

type Handler = (request: Request) => Response | Promise<Response>;

function handlerOf(config: OfficeConfig): Handler {
  const app = ticketApp({ nodes: () => nodes, office: office(config), backups: 2 });
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

const candidates: Record<string, { handler: Handler; token1: readonly string[] }> = {
  "a bare handler": {
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

/** Requests a second, `underWay` at a time. */
async function rate(send: (i: number) => Promise<Response>): Promise<number> {
  let done = 0;
  const measure = async (ms: number) => {
    const until = performance.now() + ms;
    done = 0;
    const worker = async () => {
      while (performance.now() < until) {
        const response = await send(done++);
        if (!(await response.text()).includes('"success":true')) throw new Error("no ticket");
      }
    };
    await Promise.all(Array.from({ length: underWay }, worker));
  };
  await measure(500);
  const began = performance.now();
  await measure(seconds * 1000);
  return done / (performance.now() - began) * 1000;
}

async function table(
  title: string,
  rateOf: (candidate: { handler: Handler; token1: readonly string[] }) => Promise<number>,
): Promise<void> {
  const rows: (readonly [string, number])[] = [];
  for (const [name, candidate] of Object.entries(candidates)) {
    rows.push([name, await rateOf(candidate)]);
  }
  const first = rows[0]?.[1] ?? 1;
  // deno-lint-ignore no-console
  const print = (line: string) => console.log(line);
  print(`\n${title.padEnd(46)}${"per second".padStart(12)}${"ratio".padStart(8)}`);
  for (const [name, perSecond] of rows) {
    print(
      `${name.padEnd(46)}${perSecond.toFixed(0).padStart(12)}${
        (perSecond / first).toFixed(2).padStart(8)
      }`,
    );
  }
}

await table("straight into the handler", ({ handler, token1 }) => {
  const urls = urlsOf("http://ticket", token1);
  return rate(async (i) => await handler(new Request(urls[i % urls.length] ?? "")));
});

await table("over HTTP/1.1, client in the same process", async ({ handler, token1 }) => {
  await using server = await servePublic({ host: "127.0.0.1", port: 0, handler });
  const urls = urlsOf(server.origin, token1);
  return await rate((i) => fetch(urls[i % urls.length] ?? ""));
});
