import assert from "node:assert/strict";
import { SignJWT } from "jose";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { ask, slowTest } from "@gru/shared/testing/harness";
import { verifier } from "@gru/ticket/token";
import { Admitted } from "./admission.ts";
import { MemoryBus } from "../broker/memory.ts";
import { RawClient } from "../load/raw_client.ts";
import type { SpearOverrides } from "../spear.ts";
import { modern, old, singleSpear } from "../spear_testing.ts";
import { type Dialect, type Json, TestClient } from "../test_client.ts";
import { MemoryUsedTokens } from "./used_tokens.ts";

const secret = "a-secret-of-more-than-32-characters";

function lockedSpear(
  flags: Record<string, string | number> = {},
  overrides: SpearOverrides = {},
) {
  const jwt = { "auth.scheme": "jwt", "auth.skewMs": 0 };
  return singleSpear({ ...jwt, ...flags }, overrides, { GRU_TOKEN2_SECRET: secret });
}

interface Token {
  readonly userId?: number;
  readonly groups?: unknown;
  readonly users?: unknown;
  readonly nodes?: readonly string[];
  readonly rightsMs?: number;
}

/** As ticket makes it. */
function token2(token: Token = {}): Promise<string> {
  const { userId = 1, groups = ["*"], users = ["*"], nodes = ["spear1"], rightsMs = 60_000 } =
    token;
  const payload = { name: "", app: "", groups, users, nodes, until: Date.now() + rightsMs };
  return new SignJWT(payload).setProtectedHeader({ alg: "HS256", typ: "gru-token2+jwt" })
    .setSubject(String(userId)).setJti(crypto.randomUUID()).setExpirationTime("30s")
    .sign(new TextEncoder().encode(secret));
}

async function enter(
  address: string,
  token: Token = {},
  dialect: Dialect = modern,
): Promise<TestClient & { readonly told: Json }> {
  const client = await TestClient.connect(address, dialect);
  const result = await client.request("auth", {
    id: token.userId ?? 1,
    token2: await token2(token),
  });
  assert.equal(result.success, true, JSON.stringify(result));
  return Object.assign(client, { told: result.data });
}

/** What `auth` with this token2 is answered on a connection of its own. */
async function tryToken(address: string, id: number, token: string): Promise<Json> {
  await using client = await TestClient.connect(address, modern);
  const result = await client.request("auth", { id, token2: token });
  if (!result.success) await client.closed;
  return result;
}

function assertRefused(result: Json, errorCode: number, message: RegExp): void {
  assert.equal(result.success, false, JSON.stringify(result));
  assert.equal(result.errorCode, errorCode);
  assert.match(result.msg, message);
}

for (const dialect of [modern, old]) {
  slowTest({
    name: `rights hold on subscribe, msg and online (${dialect.name})`,
    // socket.io-client 2 leaves timers behind for a few milliseconds.
    sanitizeOps: dialect !== old,
    fn: async () => {
      await using spear = await lockedSpear();
      const groups = { listen: [10, "room:*"], send: [[20, 29]] };
      await using client = await enter(spear.address, { groups, users: [1] }, dialect);
      const subscribe = (...ids: unknown[]) =>
        client.request("subscribe", { userId: 1, subscribeGroups: ids.map((id) => ({ id })) });
      const msg = (type: number, id: unknown) =>
        client.request("msg", { type, target: { id }, content: "x" });

      assert.equal((await subscribe(10, "room:1")).success, true);
      assertRefused(await subscribe(10, 20), 1002, /subscribe: no right to listen to group 20/);
      assert.equal((await msg(1, 25)).success, true);
      assertRefused(await msg(1, 10), 1002, /msg: no right to send to group 10/);
      assertRefused(await msg(1, 30), 1002, /no right to send to group 30/);
      assert.equal((await msg(0, 1)).success, true);
      assertRefused(await msg(0, 2), 1002, /no right to send to user 2/);
      assert.deepEqual((await client.request("online", 10)).data, { userIds: [1] });
      assertRefused(await client.request("online", 20), 1002, /online: no right to listen/);
      assert.equal(client.connected, true);
    },
  });
}

Deno.test("a group that a client may not listen to stays shut when others of the list are open", async () => {
  await using spear = await lockedSpear();
  await using client = await enter(spear.address, { groups: { listen: [10], send: ["*"] } });
  await client.request("subscribe", {
    userId: 1,
    subscribeGroups: [{ id: 10 }, { id: 20, presence: true }],
  });
  await using sender = await enter(spear.address, { userId: 2 });
  for (const id of [10, 20]) {
    await sender.request("msg", { type: 1, target: { id }, content: "x" });
  }
  await sender.request("online", 10);
  assert.deepEqual(client.pending("msg"), []);
  assert.deepEqual(client.pending("presence"), []);
});

Deno.test("token2 lets in once, at its nodes, and its user", async () => {
  await using spear = await lockedSpear();
  const token = await token2();
  assertRefused(await tryToken(spear.address, 2, token), 1003, /another user/);
  assert.equal((await tryToken(spear.address, 1, token)).success, true);
  assertRefused(await tryToken(spear.address, 1, token), 1003, /token2 has been used already/);
  const elsewhere = await token2({ nodes: ["spear2", "spear3"] });
  assertRefused(await tryToken(spear.address, 1, elsewhere), 1003, /other nodes/);
  assertRefused(await tryToken(spear.address, 1, "open"), 1003, /not a token/);
});

Deno.test("a client that lost its line resumes without ticket, with a token that changes every time", async () => {
  await using spear = await lockedSpear();
  const first = await enter(spear.address, { groups: [10] });
  await first[Symbol.asyncDispose]();
  let { resume } = first.told;
  const seen = new Set([resume]);
  for (let i = 0; i < 3; i++) {
    const { data } = await tryToken(spear.address, 1, resume);
    assert.equal(data.rightsUntil, first.told.rightsUntil);
    assertRefused(await tryToken(spear.address, 1, resume), 1003, /used already/);
    resume = data.resume;
    seen.add(resume);
  }
  assert.equal(seen.size, 4);
  assertRefused(await tryToken(spear.address, 2, resume), 1003, /another user/);
  await using client = await TestClient.connect(spear.address, modern);
  assert.equal((await client.request("auth", { id: 1, token2: resume })).success, true);
  assertRefused(
    await client.request("msg", { type: 1, target: { id: 11 }, content: "x" }),
    1002,
    /no right/,
  );
});

Deno.test("a client is asked for new rights in time, keeps what they allow, and leaves the rest", async () => {
  await using spear = await lockedSpear({ "auth.refreshMs": 60_000 });
  await using client = await enter(spear.address, { groups: [10, 11], rightsMs: 30_000 });
  await client.request("subscribe", { userId: 1, subscribeGroups: [{ id: 10 }, { id: 11 }] });
  const asked = await client.next("refresh");
  assert.equal(asked.rightsUntil, client.told.rightsUntil);
  const { data } = await client.request("auth", {
    id: 1,
    token2: await token2({ groups: [11, 12], rightsMs: 300_000 }),
  });
  assert.deepEqual(data.left, [10]);
  assert.ok(data.rightsUntil > asked.rightsUntil);
  await using sender = await enter(spear.address, { userId: 2 });
  for (const id of [10, 11]) {
    await sender.request("msg", { type: 1, target: { id }, content: "x" });
  }
  assert.equal((await client.next("msg")).target.id, 11);
  assert.deepEqual(client.pending("msg"), []);
  assertRefused(await client.request("online", 10), 1002, /no right/);
});

slowTest("a client that brings no new rights in time is closed with 4003", async () => {
  await using spear = await lockedSpear({ "auth.refreshMs": 200 });
  const { hostname, port } = new URL(spear.address);
  const packets: string[] = [];
  let closedWith: number | undefined;
  const client = await RawClient.connect({
    host: hostname,
    port: Number(port),
    onPacket: (packet) => packets.push(packet.toString()),
    onCloseFrame: (code) => closedWith = code,
  });
  const argument = { id: 1, token2: await token2({ rightsMs: 1000 }) };
  client.send(`20["auth",${JSON.stringify(argument)}]`);
  await client.closed;
  assert.ok(packets.some((packet) => packet.startsWith('2["refresh"')));
  assert.equal(closedWith, 4003);
});

Deno.test("nothing is done for rights that have ended, also before the connection is closed", async () => {
  const rights = { listen: ["*"], send: ["*"], users: ["*"] };
  const lock = verifier({ scheme: "jwt", token2Secret: secret, skewMs: 60_000 }, "spear1");
  const claims = { userId: "1", userName: "", appType: "" };
  const { grant } = await lock.check(claims, "", await token2({ rightsMs: -1 }));
  assert.deepEqual(grant.rights, rights);
  const admitted = new Admitted(lock, new MemoryUsedTokens(), { grant }, []);
  const expired = { name: "EventError", errorCode: 1002, message: /the rights have expired/ };
  assert.throws(() => admitted.requireListen("subscribe", "1"), expired);
  assert.throws(() => admitted.requireListen("online", "1"), expired);
  for (const type of [0, 1] as const) assert.throws(() => admitted.requireSend(type, "1"), expired);
});

Deno.test("a stopping node gives its clients tokens for the node they are sent to", async () => {
  await using registry = new MemoryRegistry();
  const bus = new MemoryBus({ size: 1000, ageMs: 60_000 });
  const leaving = await lockedSpear({ id: 1, drainMs: 1000 }, { registry, bus });
  await using staying = await lockedSpear({ id: 2 }, { registry, bus });
  const client = await enter(leaving.address, { groups: [10] });
  const moved = client.next("move");
  const stopped = leaving[Symbol.asyncDispose]();
  const { addr, name, token } = await moved;
  assert.equal(addr, staying.address);
  assert.equal(name, "spear2");
  await client[Symbol.asyncDispose]();
  const { data } = await tryToken(addr, 1, token);
  assert.equal(data.rightsUntil, client.told.rightsUntil);
  assertRefused(await tryToken(addr, 1, token), 1003, /used already/);
  await stopped;
});

Deno.test("a page of another origin cannot connect, over WebSocket or polling", async () => {
  await using spear = await lockedSpear({ origins: "https://example.org,http://localhost:8080" });
  const port = Number(new URL(spear.address).port);
  const handshake = async (transport: string, origin: string | undefined) => {
    const answer = await ask(
      port,
      [
        `GET /socket.io/?EIO=4&transport=${transport} HTTP/1.1`,
        "Host: spear",
        ...(origin === undefined ? [] : [`Origin: ${origin}`]),
        ...(transport === "websocket"
          ? [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
          ]
          : ["Connection: close"]),
        "\r\n",
      ].join("\r\n"),
    );
    return answer?.split(" ")[1];
  };
  for (const origin of ["https://evil.example", "null", "https://example.org.evil.example"]) {
    assert.equal(await handshake("polling", origin), "403", origin);
    assert.equal(await handshake("websocket", origin), "403", origin);
  }
  for (const origin of ["https://example.org", "http://localhost:8080", undefined]) {
    assert.equal(await handshake("polling", origin), "200");
    assert.equal(await handshake("websocket", origin), "101");
  }
});

for (
  const [what, flags, environment, message] of [
    ["jwt without a secret", { "auth.scheme": "jwt" }, {}, /token2Secret: .*GRU_TOKEN2_SECRET/],
    [
      "jwt with a short secret",
      { "auth.scheme": "jwt" },
      { GRU_TOKEN2_SECRET: `${secret},short` },
      /32 characters/,
    ],
    [
      "gru outside dev",
      { profile: "test1", "auth.scheme": "gru" },
      { GRU_SALT_TOSPEAR: "salt" },
      /auth\.gruAllowed/,
    ],
    [
      "a sample salt outside dev",
      { profile: "test1", "auth.scheme": "gru", "auth.gruAllowed": "true" },
      { GRU_SALT_TOSPEAR: "token_gen_for_spear@sumory.com" },
      /saltToSpear: is the published sample of the old Gru/,
    ],
  ] as const
) {
  Deno.test(`spear refuses to start with ${what}, and does not show the secret`, () => {
    assert.throws(() => singleSpear(flags, {}, environment), (error: Error) => {
      assert.equal(error.name, "ConfigError");
      assert.match(error.message, message);
      for (const value of Object.values(environment)) {
        assert.ok(!error.message.includes(value), error.message);
      }
      return true;
    });
  });
}

Deno.test("spear starts with Gru's sample salt in dev", async () => {
  const environment = { GRU_SALT_TOSPEAR: "token_gen_for_spear@sumory.com" };
  await using _spear = await singleSpear({ "auth.scheme": "gru" }, {}, environment);
});
