import assert from "node:assert/strict";
import type { Instance } from "@gru/shared/registry";
import { minionsApp } from "./app.ts";
import { SignIn } from "./sign_in.ts";

function instance(service: string, addresses: Record<string, string>): Instance {
  return { service, name: `${service}1`, addresses, startedAt: 0, meta: {} };
}

function app(passwords: { act?: string; look?: string } = {}, instances: Instance[] = []) {
  return minionsApp({
    name: "minions1",
    cluster: { view: { stale: false, instances }, events: [], [Symbol.dispose]: () => {} },
    signIn: new SignIn({ act: passwords.act, look: passwords.look }),
    apiKey: "key",
    closing: new AbortController().signal,
  });
}

const host = "http://127.0.0.1:40000";
const console = { "x-gru": "console", "content-type": "application/json" };

async function signIn(over: ReturnType<typeof app>, password: string) {
  const body = JSON.stringify({ password });
  const response = await over.request(`${host}/sign-in`, {
    method: "POST",
    headers: console,
    body,
  });
  return { response, cookie: response.headers.get("set-cookie")?.split(";")[0] ?? "" };
}

async function codeOf(response: Response): Promise<[number, string]> {
  return [response.status, (await response.json()).error.code];
}

Deno.test("minionsApp shows nothing but its files to who is not signed in", async () => {
  const closed = app({ act: "strong" });
  for (const path of ["/nodes", "/events", "/ticket", "/api/nodes", "/no/such/route"]) {
    assert.deepEqual(await codeOf(await closed.request(host + path)), [401, "unauthenticated"]);
  }
  for (const path of ["/", "/ui/app.ts", "/ui/socket.io.js", "/session"]) {
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

Deno.test("minionsApp takes no request that another site's page could have sent", async () => {
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
  const rebound = await app().request("http://evil.example:40000/nodes");
  assert.deepEqual(await codeOf(rebound), [403, "forbidden"]);
  for (const name of ["127.0.0.1", "localhost", "[::1]"]) {
    assert.equal((await app().request(`http://${name}:40000/nodes`)).status, 200);
  }
});

Deno.test("minionsApp lets who may look read and not act, and brakes guessing", async () => {
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
});

Deno.test("minionsApp passes calls on to a live stat with its key, bodies and answers as they are", async () => {
  const seen: string[] = [];
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const { method, url, headers } = request;
      seen.push(
        `${method} ${new URL(url).pathname}${new URL(url).search} ${
          headers.get("authorization")
        } ${await request.text()}`,
      );
      return Response.json({ error: { code: "conflict", message: "m" } }, { status: 409 });
    },
  );
  const over = app({}, [instance("stat", { http: `http://127.0.0.1:${server.addr.port}` })]);
  const response = await over.request(`${host}/api/groups/a%2Fb/messages?x=1`, {
    method: "POST",
    headers: console,
    body: '{"content":"x"}',
  });
  assert.deepEqual(await codeOf(response), [409, "conflict"]);
  assert.deepEqual(seen, ['POST /groups/a%2Fb/messages?x=1 Bearer key {"content":"x"}']);
});

Deno.test("minionsApp says what is wrong with stat or ticket, and asks nobody to sign in for it", async () => {
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
  const ticket = await messageOf("/ticket", [instance("ticket", { http: "http://127.0.0.1:1" })]);
  assert.deepEqual(ticket.slice(0, 2), unavailable);
});
