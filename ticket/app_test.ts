import assert from "node:assert/strict";
import { ticketApp, type TicketOptions } from "./app.ts";
import { gruToken, tokenScheme } from "./token.ts";

const nodes = [1, 2, 3].map((id) => ({ name: `spear${id}`, addr: `http://127.0.0.1:3100${id}` }));

function ask(path: string, options: Partial<TicketOptions> = {}, init: RequestInit = {}) {
  const app = ticketApp({
    nodes: () => nodes,
    scheme: tokenScheme({ scheme: "open" }),
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

Deno.test("GET /ticket names a node, its token and all others as backups in a stable order", async () => {
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

Deno.test("GET /ticket takes a changed list of nodes at once", async () => {
  let current: typeof nodes = [];
  const app = ticketApp({ nodes: () => current, scheme: tokenScheme({ scheme: "open" }) });
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

Deno.test("GET /ticket answers 711 to a wrong token1 and a usable token2 to the right one", async () => {
  const scheme = tokenScheme({ scheme: "gru", saltToTicket: "a", saltToSpear: "b" });
  assert.equal((await answer(query, { scheme })).errorCode, 711);
  const token1 = gruToken("42_Ann_1", "a");
  const { data } = await answer(query.replace("token1=x", `token1=${token1}`), { scheme });
  const claims = { userId: "42", userName: "Ann", appType: "1" };
  assert.equal(await scheme.acceptsToken2(claims, token1, data.token), true);
});

Deno.test("GET /ticket answers 701 when no spear is there", async () => {
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
  assert.equal((await ask(query, {}, { method: "POST" })).status, 405);
  assert.equal((await ask("/tickets")).status, 404);
  const welcome = await ask("/");
  assert.equal(welcome.status, 200);
  assert.match(welcome.headers.get("content-type") ?? "", /text\/plain/);
});
