import assert from "node:assert/strict";
import { jwtVerify } from "jose";
import type { Instance } from "@gru/shared/registry/registry";
import { proofHeader, Verifier } from "@gru/shared/rpc/proof";
import { minionsApp } from "./app.ts";
import { operatorHeader } from "@gru/stat/contract";
import { SignIn } from "./sign_in.ts";

function instance(service: string, addresses: Record<string, string>): Instance {
  return { service, name: `${service}1`, addresses, startedAt: 0, meta: {} };
}

function app(
  passwords: { act?: string; look?: string } = {},
  instances: Instance[] = [],
  trialSecret?: string,
) {
  return minionsApp({
    name: "minions1",
    cluster: {
      view: { stale: false, instances },
      events: [],
      connections: new Map(),
      [Symbol.dispose]: () => {},
    },
    vitals: { read: () => Promise.resolve([]) },
    signIn: new SignIn({ act: passwords.act, look: passwords.look }),
    apiKey: "key",
    trialSecret,
    closing: new AbortController().signal,
    trustedHops: 1,
  });
}

const host = "http://127.0.0.1:40000";
const console = { "x-gru": "console", "content-type": "application/json" };

async function signIn(over: ReturnType<typeof app>, password: string, from = "192.0.2.1") {
  const body = JSON.stringify({ password });
  const response = await over.request(`${host}/sign-in`, {
    method: "POST",
    headers: { ...console, "x-forwarded-for": from },
    body,
  });
  return { response, cookie: response.headers.get("set-cookie")?.split(";")[0] ?? "" };
}

/** Who has the console do it is part of the proof. */
function verifyAsStat(verifier: Verifier, request: Request) {
  const operator = request.headers.get(operatorHeader);
  return verifier.verify(request, "", ...operator === null ? [] : [operator]);
}

async function codeOf(response: Response): Promise<[number, string]> {
  return [response.status, (await response.json()).error.code];
}

Deno.test("minionsApp serves only its files without sign-in", async () => {
  const closed = app({ act: "strong" });
  for (const path of ["/nodes", "/events", "/ticket", "/api/nodes", "/no/such/route"]) {
    assert.deepEqual(await codeOf(await closed.request(host + path)), [401, "unauthenticated"]);
  }
  for (const path of ["/", "/ui/app.ts", "/ui/gru.js", "/session"]) {
    const response = await closed.request(host + path);
    assert.equal(response.status, 200);
    assert.match(response.headers.get("content-security-policy") ?? "", /frame-ancestors 'none'/);
  }
  const { cookie, response } = await signIn(closed, "strong");
  assert.match(response.headers.get("set-cookie") ?? "", /HttpOnly; SameSite=Strict/);
  const nodes = () => closed.request(`${host}/nodes`, { headers: { cookie } });
  assert.equal((await nodes()).status, 200);
  await closed.request(`${host}/sign-out`, { method: "POST", headers: { ...console, cookie } });
  assert.equal((await nodes()).status, 401);
});

Deno.test("minionsApp rejects requests that another site's page could have sent", async () => {
  const over = app({ act: "strong" });
  const { cookie } = await signIn(over, "strong");
  for (const path of ["/sign-in", "/sign-out", "/api/broadcast"]) {
    const response = await over.request(host + path, {
      method: "POST",
      headers: { cookie, "content-type": "application/json" },
      body: "{}",
    });
    assert.deepEqual(await codeOf(response), [403, "forbidden"]);
  }
});

Deno.test("minionsApp lets the role look read but not act, and slows down password guessing", async () => {
  const over = app({ act: "strong", look: "weak" });
  const { cookie } = await signIn(over, "weak");
  for (const method of ["POST", "DELETE", "PUT"]) {
    const headers = { ...console, cookie };
    const response = await over.request(`${host}/api/broadcast`, { method, headers });
    assert.deepEqual(await codeOf(response), [403, "forbidden"]);
  }
  assert.deepEqual(
    await codeOf(await over.request(`${host}/api/nodes`, { headers: { cookie } })),
    [503, "unavailable"],
    "there is no stat in this test",
  );
  for (let i = 0; i < 5; i++) assert.equal((await signIn(over, "guess")).response.status, 401);
  const { response } = await signIn(over, "strong");
  assert.match(response.headers.get("retry-after") ?? "", /^\d+$/);
  assert.deepEqual(await codeOf(response), [429, "overloaded"]);
  assert.equal((await signIn(over, "strong", "198.51.100.1")).response.status, 200);
});

Deno.test("minionsApp forwards calls to a live stat with its key, and leaves bodies and answers unchanged", async () => {
  const seen: string[] = [];
  const verifier = new Verifier({ key: "key", use: "api", keyName: "The key" });
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const { method, url } = request;
      const { refusal, proveAnswer } = verifyAsStat(verifier, request);
      if (refusal !== undefined) {
        return new Response(null, {
          status: 401,
          headers: { [proofHeader]: proveAnswer?.(401) ?? "" },
        });
      }
      const { pathname, search } = new URL(url);
      seen.push(`${method} ${pathname}${search} ${await request.text()}`);
      return Response.json({ error: { code: "conflict", message: "m" } }, {
        status: 409,
        headers: { [proofHeader]: proveAnswer?.(409) ?? "" },
      });
    },
  );
  const over = app({}, [instance("stat", { http: `http://127.0.0.1:${server.addr.port}` })]);
  const response = await over.request(`${host}/api/groups/a%2Fb/messages?x=1`, {
    method: "POST",
    headers: console,
    body: '{"content":"x"}',
  });
  assert.deepEqual(await codeOf(response), [409, "conflict"]);
  assert.deepEqual(seen, ['POST /groups/a%2Fb/messages?x=1 {"content":"x"}']);
});

Deno.test("minionsApp sends an impostor of stat neither its key nor a call, and uses a real stat", async () => {
  const seen: string[] = [];
  const given = Promise.withResolvers<string>();
  await using impostor = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async ({ method, url, headers }) => {
      const authorization = headers.get("authorization") ?? "";
      given.resolve(authorization);
      seen.push(`${method} ${new URL(url).pathname} ${authorization}`);
      // Forwarded to the real stat, whose answer the impostor would show as its own.
      const passed = await fetch(`http://127.0.0.1:${stat.addr.port}${new URL(url).pathname}`, {
        method,
        headers: { authorization },
      });
      assert.equal(passed.headers.get(proofHeader), "");
      return passed;
    },
  );
  const calls: string[] = [];
  let address = "";
  const verifier = new Verifier({
    key: "the key of the API",
    use: "api",
    callee: () => address,
    keyName: "The key",
  });
  await using stat = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => {
      const { refusal, proveAnswer } = verifyAsStat(verifier, request);
      const status = refusal === undefined ? 200 : 401;
      if (refusal === undefined) calls.push(request.method);
      return Response.json({}, { status, headers: { [proofHeader]: proveAnswer?.(status) ?? "" } });
    },
  );
  address = `http://127.0.0.1:${stat.addr.port}`;
  const over = minionsApp({
    name: "minions1",
    cluster: {
      view: {
        stale: false,
        instances: [
          instance("stat", { http: `http://127.0.0.1:${impostor.addr.port}` }),
          instance("stat", { http: address }),
        ],
      },
      events: [],
      connections: new Map(),
      [Symbol.dispose]: () => {},
    },
    vitals: { read: () => Promise.resolve([]) },
    signIn: new SignIn({ act: undefined, look: undefined }),
    apiKey: "the key of the API",
    trustedHops: 0,
    closing: new AbortController().signal,
  });
  const post = { method: "POST", headers: console, body: "{}" };
  while (seen.length < 3) {
    for (const [path, init] of [["nodes", {}], ["broadcast", post]] as const) {
      const response = await over.request(`${host}/api/${path}`, init);
      assert.deepEqual([response.status, await response.text()], [200, "{}"]);
    }
  }
  for (const line of seen) assert.match(line, /^GET \/nodes GruProof /);
  assert.doesNotMatch(seen.join(), /the key|dGhlIGtleS/);
  assert.equal(calls.filter((method) => method === "POST").length, calls.length / 2);
  const replayed = await fetch(`${address}/nodes`, {
    headers: { authorization: await given.promise },
  });
  await replayed.body?.cancel();
  assert.equal(replayed.status, 401);
});

Deno.test("minionsApp reports what is wrong with stat or ticket, without asking for a new sign-in", async () => {
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => Response.json({ error: { code: "unauthenticated", message: "m" } }, { status: 401 }),
  );
  const messageOf = async (path: string, instances: Instance[]) => {
    const response = await app({}, instances).request(host + path);
    const { error } = await response.json();
    return [response.status, error.code, error.message];
  };
  const unavailable = [503, "unavailable"];
  const at = `http://127.0.0.1:${server.addr.port}`;
  assert.deepEqual(await messageOf("/api/nodes", [instance("stat", { http: at })]), [
    ...unavailable,
    "stat refuses the key of this console: GRU_STAT_API_KEY",
  ]);
  const [status, code, message] = await messageOf("/api/nodes", [
    instance("stat", { http: "http://127.0.0.1:1" }),
  ]);
  assert.deepEqual([status, code], unavailable);
  assert.match(message, /^stat at http:\/\/127\.0\.0\.1:1 does not answer: /);
  assert.deepEqual(await messageOf("/ticket", []), [...unavailable, "no ticket is alive"]);
  assert.deepEqual(await messageOf("/spears/spear1/ticket", [instance("spear", {})]), [
    ...unavailable,
    "no spear spear1 takes clients",
  ]);
  const ticket = await messageOf("/ticket", [instance("ticket", { http: "http://127.0.0.1:1" })]);
  assert.deepEqual(ticket.slice(0, 2), unavailable);
});

Deno.test("minionsApp makes tokens for trying only with a secret for them, and only for who may act", async () => {
  const trialSecret = "a secret of 32 characters or more";
  const ask = async (over: ReturnType<typeof app>, password: string, userId: unknown = "7") => {
    const { cookie } = await signIn(over, password);
    const { makesTokens } = await (await over.request(`${host}/session`, { headers: { cookie } }))
      .json();
    const response = await over.request(`${host}/token`, {
      method: "POST",
      headers: { ...console, cookie },
      body: JSON.stringify({ userId }),
    });
    return { makesTokens, response };
  };
  const passwords = { act: "strong", look: "weak" };
  for (
    const [over, password] of [
      [app(passwords), "strong"],
      [app(passwords, [], trialSecret), "weak"],
    ] as const
  ) {
    const { makesTokens, response } = await ask(over, password);
    assert.equal(makesTokens, false);
    assert.deepEqual(await codeOf(response), [403, "forbidden"]);
  }
  const over = app(passwords, [], trialSecret);
  assert.deepEqual(await codeOf((await ask(over, "strong", "a b")).response), [
    400,
    "invalid_argument",
  ]);
  const { makesTokens, response } = await ask(over, "strong");
  assert.equal(makesTokens, true);
  const key = new TextEncoder().encode(trialSecret);
  const { payload } = await jwtVerify((await response.json()).token, key);
  assert.deepEqual([payload.sub, payload.groups], ["7", ["*"]]);
  const stranger = await over.request(`${host}/token`, {
    method: "POST",
    headers: console,
    body: "{}",
  });
  assert.deepEqual(await codeOf(stranger), [401, "unauthenticated"]);
});
