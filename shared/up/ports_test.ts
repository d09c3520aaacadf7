/** Every port of a running cluster: bodies are bounded before anybody says who they are, and foreign pages are kept out. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { connect } from "node:net";
import { waitFor } from "@gru/shared/testing/harness";
import { http1, rawConnection } from "@gru/shared/testing/http";
import { upOnFreePorts } from "./up_testing.ts";

const password = "strong enough";

function up(environment: Record<string, string> = {}) {
  return upOnFreePorts((name) => environment[name]);
}

/** Sends this request and reads the answer, from one of this machine's addresses. */
async function raw(
  origin: string,
  request: string,
  { from = "127.0.0.1", body = 0 }: { readonly from?: string; readonly body?: number } = {},
): Promise<{ readonly status: number; readonly text: string; readonly sent: number }> {
  const { hostname: host, port } = new URL(origin);
  const socket = connect({ host, port: Number(port), localAddress: from });
  let text = "";
  socket.on("data", (data: Buffer) => text += data.toString("latin1"));
  socket.on("error", () => {});
  const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()));
  socket.write(request);
  const piece = Buffer.alloc(65_536, 0x20);
  let sent = 0;
  while (sent < body && !socket.destroyed && text === "") {
    sent += piece.length;
    if (socket.write(piece)) await new Promise((resolve) => setTimeout(resolve));
    else {await Promise.race([
        closed,
        new Promise<void>((resolve) => socket.once("drain", resolve)),
      ]);}
  }
  await waitFor(() => text.includes("\r\n\r\n") || socket.destroyed);
  socket.destroy();
  await closed;
  return { status: Number(text.split(" ")[1]), text, sent };
}

function post(path: string, headers: Record<string, string>): string {
  const all = { host: "127.0.0.1", connection: "close", ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`).join("");
  return `POST ${path} HTTP/1.1\r\n${lines}\r\n`;
}

Deno.test("no port takes a body of 400 MB from somebody who has not said who they are", async () => {
  await using cluster = await up({ GRU_MINIONS_PASSWORD: password, GRU_STAT_API_KEY: "key" });
  const { ticket, stat, idgen, minions } = cluster.addresses;
  const { stat: statRpc } = cluster.inner;
  const length = `${400 << 20}`;
  const json = { "content-type": "application/json" };
  const before = Deno.memoryUsage().rss;
  for (
    const [origin, path, headers] of [
      [minions, "/sign-in", { ...json, "x-gru": "console" }],
      [minions, "/api/broadcast", { ...json, "x-gru": "console", cookie: "gru_minions1=guess" }],
      [stat, "/broadcast", { ...json, authorization: "Bearer guess" }],
      [stat, "/users/5/kick", json],
      [statRpc, "/stat/report", json],
      [idgen, "/idgen/getMsgId", json],
      [ticket, "/ticket", { ...json, authorization: "Bearer x" }],
    ] as const
  ) {
    for (const size of [{ "content-length": length }, { "transfer-encoding": "chunked" }]) {
      const chunked = Object.hasOwn(size, "transfer-encoding");
      const begin = post(path, { ...headers, ...size }) + (chunked ? "20000000\r\n" : "");
      let { status, sent } = await raw(origin, begin, { body: 400 << 20 });
      // What was on its way when the port closed the connection can make the kernel drop the answer before it is read.
      for (let tries = 0; tries < 5 && Number.isNaN(status); tries++) {
        ({ status, sent } = await raw(origin, begin, { body: 400 << 20 }));
      }
      const what = `${path} ${JSON.stringify(size)}`;
      assert.ok(status >= 400 && status < 500, `${what}: ${status}`);
      assert.ok(sent < 40 << 20, `${what}: ${sent} bytes were taken`);
    }
  }
  const grown = Deno.memoryUsage().rss - before;
  assert.ok(grown < 120 << 20, `${grown} bytes`);
});

Deno.test("the console takes 4096 bytes before sign-in, and what stat takes after it", async () => {
  await using cluster = await up({ GRU_MINIONS_PASSWORD: password });
  const { minions } = cluster.addresses;
  const headers = { "x-gru": "console", "content-type": "application/json" };
  const ask = async (path: string, body: string, more = {}) => {
    const response = await fetch(minions + path, {
      method: "POST",
      body,
      headers: { ...headers, ...more },
    });
    await response.body?.cancel();
    return response;
  };
  const long = JSON.stringify({ password, filler: "x".repeat(4096) });
  assert.equal((await ask("/sign-in", long)).status, 413);
  const signedIn = await ask("/sign-in", JSON.stringify({ password }));
  assert.equal(signedIn.status, 200);
  const cookie = signedIn.headers.get("set-cookie")?.split(";")[0] ?? "";
  const message = JSON.stringify({ content: "x".repeat(20_000) });
  assert.equal((await ask("/api/groups/10/messages", message, { cookie })).status, 200);
  assert.equal((await ask("/api/groups/10/messages", message)).status, 413);
});

Deno.test("a page of another site gets nothing from the ports that ask for no key", async () => {
  await using cluster = await up();
  const { stat, idgen, minions, ticket } = cluster.addresses;
  const { stat: statRpc, spear1: monitor1 } = cluster.inner;
  const json = "content-type: application/json\r\n";
  const form = "content-type: text/plain\r\ncontent-length: 15\r\n";
  const rebound = (port: string) => `host: evil.example:${port}\r\n`;
  for (
    const [origin, requests] of [
      [stat, [
        "GET /nodes",
        "POST /broadcast",
        "DELETE /bans/user/5",
        "GET /getGroupStat?groupId=1",
        "GET /metrics",
      ]],
      [statRpc, ["POST /stat/usersOfGroup", "GET /stat", "GET /metrics"]],
      [idgen, ["POST /idgen/getMsgId", "GET /metrics"]],
      [minions, [
        "GET /nodes",
        "POST /api/broadcast",
        "GET /events",
        "GET /session",
        "GET /metrics",
      ]],
      [monitor1, ["POST /spear/usersOfGroup", "GET /metrics"]],
      [ticket, ["GET /metrics"]],
    ] as const
  ) {
    const { port } = new URL(origin);
    const own = `host: 127.0.0.1:${port}\r\nx-gru: console\r\n`;
    for (const request of requests) {
      const ask = async (headers: string) => {
        const body = headers.includes("content-length") ? '{"content":"x"}' : "";
        return await raw(origin, `${request} HTTP/1.1\r\n${headers}\r\n${body}`);
      };
      for (
        const foreign of [
          rebound(port),
          `${rebound(port)}origin: http://evil.example:${port}\r\nsec-fetch-site: same-origin\r\n`,
          `${own}origin: http://evil.example\r\n${form}`,
          `${own}origin: null\r\n`,
          `${own}sec-fetch-site: cross-site\r\n${json}`,
          `${own}sec-fetch-site: same-site\r\nx-gru: console\r\n`,
        ]
      ) {
        const { status, text } = await ask(foreign);
        assert.equal(status, 403, `${request} ${foreign}`);
        assert.match(text, /"code":"forbidden"/);
      }
      assert.notEqual((await ask(own)).status, 403, `${request}, from no browser`);
    }
    const preflight = await raw(
      origin,
      `OPTIONS /nodes HTTP/1.1\r\n${own}origin: http://evil.example\r\naccess-control-request-method: POST\r\n\r\n`,
    );
    if (origin !== ticket) {
      assert.equal(preflight.status, 403);
      assert.doesNotMatch(preflight.text, /access-control-allow/i);
    }
    assert.equal((await raw(origin, `GET /healthz HTTP/1.1\r\n${rebound(port)}\r\n`)).status, 200);
  }
});

Deno.test("a stranger's guesses do not keep an operator at another address out of the console", async () => {
  await using cluster = await up({ GRU_MINIONS_PASSWORD: password });
  const { minions } = cluster.addresses;
  const signIn = async (guess: string, from: string) => {
    const body = JSON.stringify({ password: guess });
    const headers = {
      "x-gru": "console",
      "content-type": "application/json",
      "content-length": `${body.length}`,
    };
    return (await raw(minions, post("/sign-in", headers) + body, { from })).status;
  };
  for (let i = 0; i < 5; i++) assert.equal(await signIn(`guess${i}`, "127.0.0.66"), 401);
  for (let i = 0; i < 50; i++) assert.equal(await signIn(`more${i}`, "127.0.0.66"), 429);
  // A guesser has many names for itself, and only one address.
  const body = JSON.stringify({ password });
  const forged = {
    "x-gru": "console",
    "content-type": "application/json",
    "x-forwarded-for": "192.0.2.7",
  };
  const { status } = await raw(
    minions,
    post("/sign-in", { ...forged, "content-length": `${body.length}` }) + body,
    { from: "127.0.0.66" },
  );
  assert.equal(status, 429);
  assert.equal(await signIn(password, "127.0.0.1"), 200);
});

Deno.test("a path with dot segments is refused, not taken for another path", async () => {
  await using cluster = await up();
  const { stat, minions } = cluster.addresses;
  for (const [origin, prefix] of [[stat, ""], [minions, "/api"]] as const) {
    for (const dots of [".", "..", "%2e", "%2E%2E", "%2e."]) {
      for (const end of ["users", "presence", "messages"]) {
        const path = `${prefix}/groups/${dots}/${end}`;
        const { status } = await raw(
          origin,
          `GET ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n`,
        );
        assert.equal(status, 400, path);
      }
    }
  }
});

Deno.test("idle connections and slow ones do not keep honest callers from the RPC and health", async () => {
  await using cluster = await up();
  const { stat: statRpc } = cluster.inner;
  await using stack = new AsyncDisposableStack();
  const port = Number(new URL(statRpc).port);
  for (let i = 0; i < 200; i++) {
    const { socket } = stack.use(await rawConnection({ port, speech: http1 }));
    if (i % 2 === 0) socket.write(http1.endlessHeaders.head);
  }
  const response = await fetch(`${statRpc}/stat/usersOfGroup`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: '{"groupId":"1"}',
  });
  assert.deepEqual(await response.json(), { userIds: [] });
});
