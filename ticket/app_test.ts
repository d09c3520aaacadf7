import assert from "node:assert/strict";
import { SignJWT } from "jose";
import { ticketApp, type TicketOptions } from "./app.ts";
import { issuer, type IssuerConfig, verifier } from "./token.ts";
import { gruToken } from "./token_gru.ts";

const nodes = [1, 2, 3].map((id) => ({ name: `spear${id}`, addr: `http://127.0.0.1:3100${id}` }));

function issuerOf(changes: Partial<IssuerConfig>) {
  return issuer({
    scheme: "open",
    token1: { skewMs: 0 },
    token2Ms: 30_000,
    rightsMs: 3_600_000,
    ...changes,
  });
}

const open = issuerOf({});

function ask(path: string, options: Partial<TicketOptions> = {}, init: RequestInit = {}) {
  const app = ticketApp({
    nodes: () => nodes,
    issuer: open,
    now: () => 1_700_000_000_000,
    ...options,
  });
  return app.request(path, init);
}

async function answer(path: string, options: Partial<TicketOptions> = {}) {
  const response = await ask(path, options);
  assert.equal(response.status, 200);
  return await response.json();
}

const query = "/ticket?userId=42&userName=Ann&appType=1&token1=x";

Deno.test("GET /ticket names a node, a token and all other nodes as backups in a stable order", async () => {
  const first = await answer(query);
  assert.deepEqual({ ...first, data: null }, {
    success: true,
    errorCode: 0,
    msg: null,
    data: null,
  });
  assert.equal(first.data.time, 1_700_000_000_000);
  assert.equal(typeof first.data.token, "string");
  const named = [first.data, ...first.data.backupNodes].map(({ name, addr }) => ({ name, addr }));
  assert.deepEqual(named.toSorted((a, b) => a.name < b.name ? -1 : 1), nodes);
  assert.deepEqual(await answer(query), first);
});

Deno.test("GET /ticket sends a user to the first backup when its own node is gone", async () => {
  const { data } = await answer(query);
  const remaining = nodes.filter((node) => node.name !== data.name);
  const after = await answer(query, { nodes: () => remaining });
  assert.equal(after.data.name, data.backupNodes[0].name);
});

Deno.test("GET /ticket uses a changed list of nodes at once", async () => {
  let current: typeof nodes = [];
  const app = ticketApp({ nodes: () => current, issuer: open });
  assert.equal((await (await app.request(query)).json()).errorCode, 701);
  current = nodes;
  assert.equal((await (await app.request(query)).json()).errorCode, 0);
});

Deno.test("GET /ticket ignores userType, other parameters and their order", async () => {
  const other = await answer("/ticket?z=1&token1=x&appType=1&userType=9&userName=Ann&userId=42");
  assert.deepEqual(other, await answer(query));
});

for (const name of ["userId", "userName", "appType", "token1"]) {
  Deno.test(`GET /ticket answers 710 when ${name} is missing or blank, and names it`, async () => {
    for (const value of [undefined, "", "%20%20"]) {
      const url = new URL(query, "http://ticket");
      url.searchParams.delete(name);
      const path = `${url.pathname}${url.search}${value === undefined ? "" : `&${name}=${value}`}`;
      const body = await answer(path);
      assert.equal(body.success, false);
      assert.equal(body.errorCode, 710);
      assert.match(body.msg, new RegExp(name));
      assert.equal(body.data, null);
    }
  });
}

Deno.test("GET /ticket answers 711 to an invalid token1, and a valid token2 to a valid one", async () => {
  const gru = issuerOf({ scheme: "gru", saltToTicket: "a", saltToSpear: "b" });
  assert.equal((await answer(query, { issuer: gru })).errorCode, 711);
  const token1 = gruToken("42_Ann_1", "a");
  const { data } = await answer(query.replace("token1=x", `token1=${token1}`), { issuer: gru });
  const claims = { userId: "42", userName: "Ann", appType: "1" };
  const { check } = verifier({ scheme: "gru", saltToSpear: "b", skewMs: 0 }, "spear1");
  assert.equal((await check(claims, token1, data.token)).grant.userId, "42");
});

Deno.test("GET /ticket answers 701 when no spear is available", async () => {
  assert.equal((await answer(query, { nodes: () => [] })).errorCode, 701);
});

Deno.test("GET /ticket answers 750 and hides the cause when something breaks", async () => {
  const errors: Error[] = [];
  const body = await answer(query, {
    nodes: () => {
      throw new Error("secret");
    },
    onError: (error) => errors.push(error),
  });
  assert.equal(body.errorCode, 750);
  assert.doesNotMatch(body.msg, /secret/);
  assert.equal(errors.length, 1);
});

Deno.test("GET /ticket forbids caching", async () => {
  assert.equal((await ask(query)).headers.get("cache-control"), "no-store");
});

Deno.test("ticket answers 405 to other methods, 404 elsewhere, and welcomes at /", async () => {
  assert.equal((await ask(query, {}, { method: "PUT" })).status, 405);
  assert.equal((await ask("/tickets")).status, 404);
  const welcome = await ask("/");
  assert.equal(welcome.status, 200);
  assert.match(welcome.headers.get("content-type") ?? "", /text\/plain/);
});

const secrets = {
  token1: "business-secret-of-32-characters!",
  token2: "our-own-secret-of-32-characters-!",
};
const jwt = issuerOf({
  scheme: "jwt",
  token1: { secret: secrets.token1, skewMs: 0 },
  token2Secret: secrets.token2,
});

function bearer(payload: Record<string, unknown> = {}): Promise<string> {
  return new SignJWT({ sub: "42", name: "Ann", app: "1", ...payload })
    .setProtectedHeader({ alg: "HS256" }).setExpirationTime("1h")
    .sign(new TextEncoder().encode(secrets.token1));
}

async function post(
  options: Partial<TicketOptions> & { body?: BodyInit; token1?: string; path?: string } = {},
) {
  const { body, token1 = await bearer(), path = "/ticket", ...others } = options;
  return await ask(path, { issuer: jwt, ...others }, {
    method: "POST",
    headers: token1 === "" ? {} : { authorization: `Bearer ${token1}` },
    ...(body === undefined ? {} : { body }),
  });
}

Deno.test("POST /ticket answers a bearer token like GET does, with a reason when asked", async () => {
  const token1 = await bearer();
  const byGet = await answer(query.replace("token1=x", `token1=${token1}`), { issuer: jwt });
  const byPost = await (await post({ token1 })).json();
  for (const { data } of [byGet, byPost]) {
    assert.match(data.token, /^[\w-]+\.[\w-]+\.[\w-]+$/);
    data.token = "";
  }
  assert.deepEqual(byPost, byGet);
  for (const asked of [{ path: "/ticket?explain=1" }, { body: '{"explain":true}' }]) {
    const { data } = await (await post(asked)).json();
    assert.deepEqual(data.reason, { passedOver: [] });
    assert.ok(data.expiresAt > Date.now() && data.expiresAt <= Date.now() + 30_000);
  }
});

for (
  const [what, options, status, errorCode, detail] of [
    ["no bearer", { token1: "" }, 401, 711, /Authorization: Bearer/],
    ["a forged token", { token1: "a.b.c" }, 401, 711, /token1 is not valid/],
    ["another user in the body", { body: '{"userId":43}' }, 401, 711, /claim sub/],
    ["a body that is not JSON", { body: "{" }, 400, 710, /expected JSON/],
    ["a body that is a list", { body: "[]" }, 400, 710, /expected a JSON object/],
    ["an object for a name", { body: '{"userName":{}}' }, 400, 710, /body\.userName/],
    ["a body of megabytes", { body: "x".repeat(5_000_000) }, 413, 710, /4096 bytes/],
    ["deep nesting", { body: "[".repeat(4000) }, 400, 710, /expected JSON/],
    ["no spear", { nodes: () => [] }, 503, 701, /no spear/],
    [
      "an internal failure",
      {
        nodes: () => {
          throw new Error("secret");
        },
      },
      500,
      750,
      /^internal error$/,
    ],
  ] as const
) {
  Deno.test(`POST /ticket answers ${status} and problem details to ${what}`, async () => {
    const response = await post(options);
    assert.equal(response.status, status);
    assert.match(response.headers.get("content-type") ?? "", /^application\/problem\+json/);
    assert.equal(response.headers.get("cache-control"), "no-store");
    assert.equal(response.headers.has("www-authenticate"), status === 401);
    const problem = await response.json();
    assert.equal(problem.status, status);
    assert.equal(problem.errorCode, errorCode);
    assert.match(problem.detail, detail);
  });
}

Deno.test("POST /ticket in the scheme open takes the user from the body", async () => {
  const body = JSON.stringify({ userId: 42, userName: "Ann", appType: "1" });
  const response = await post({ issuer: open, token1: "any", body });
  assert.deepEqual((await response.json()).data, (await answer(query)).data);
  assert.equal((await post({ issuer: open, token1: "any", body: "{}" })).status, 400);
});

Deno.test("/ticket limits tickets per user and per address, and names the time of the next try", async () => {
  const app = ticketApp({
    nodes: () => nodes,
    issuer: open,
    limits: { perUser: 0.2, perAddress: 0.5 },
    trustedHops: 1,
  });
  const from = async (address: string, userId: number) => {
    const path = query.replace("userId=42", `userId=${userId}`);
    const headers = { "x-forwarded-for": `6.6.6.6, ${address}` };
    return await app.request(path, { headers }, { address: "127.0.0.1" });
  };
  const codeOf = async (address: string, userId: number) =>
    (await (await from(address, userId)).json()).errorCode;
  assert.equal(await codeOf("10.0.0.1", 1), 0);
  assert.equal(await codeOf("10.0.0.2", 1), 0);
  const user = await from("10.0.0.3", 1);
  assert.equal(user.status, 200);
  assert.ok(Number(user.headers.get("retry-after")) >= 1);
  assert.equal((await user.json()).errorCode, 712);
  for (const userId of [2, 3, 4, 5]) assert.equal(await codeOf("10.0.0.1", userId), 0);
  assert.equal(await codeOf("10.0.0.1", 6), 712);
  assert.equal(await codeOf("10.0.0.9", 6), 0);
  const headers = { authorization: "Bearer x", "x-forwarded-for": "10.0.0.1" };
  const problem = await app.request("/ticket", { method: "POST", headers });
  assert.equal(problem.status, 429);
  assert.ok(problem.headers.has("retry-after"));
});

Deno.test("/ticket allows only the configured origins to read its answers", async () => {
  const origin = "https://example.org";
  const preflight = (path: string, from: string) =>
    ask(path, { origins: [origin] }, {
      method: "OPTIONS",
      headers: { origin: from, "access-control-request-method": "POST" },
    });
  const allowed = await preflight("/ticket", origin);
  assert.equal(allowed.status, 204);
  assert.equal(allowed.headers.get("access-control-allow-origin"), origin);
  assert.match(allowed.headers.get("access-control-allow-headers") ?? "", /authorization/);
  const refused = await preflight("/ticket", "https://evil.example");
  assert.equal(refused.headers.get("access-control-allow-origin"), null);
  const any = await ask(query, {}, { headers: { origin } });
  assert.equal(any.headers.get("access-control-allow-origin"), "*");
});

for (const [backups, count] of [[undefined, 2], [1, 1], [0, 0], [9, 4]] as const) {
  Deno.test(`/ticket names ${count} of four backups when backups is ${backups}, and other nodes reject its token`, async () => {
    const five = [1, 2, 3, 4, 5].map((id) => ({ name: `spear${id}`, addr: `http://${id}` }));
    const options = backups === undefined ? {} : { backups };
    const { data } = await (await post({ ...options, nodes: () => five })).json();
    assert.equal(data.backupNodes.length, count);
    const claims = { userId: "42", userName: "Ann", appType: "1" };
    const named = [data, ...data.backupNodes].map(({ name }) => name);
    for (const { name } of five) {
      const { check } = verifier(
        { scheme: "jwt", token2Secret: secrets.token2, skewMs: 0 },
        name,
      );
      const entered = await check(claims, "", data.token).then(() => true, () => false);
      assert.equal(entered, named.includes(name));
    }
  });
}

Deno.test("/ticket names all other nodes when tokens are valid at every node", async () => {
  const five = [1, 2, 3, 4, 5].map((id) => ({ name: `spear${id}`, addr: `http://${id}` }));
  const { data } = await answer(query, { nodes: () => five, backups: 0 });
  assert.equal(data.backupNodes.length, 4);
});
