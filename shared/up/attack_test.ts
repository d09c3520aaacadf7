/** Those who do not belong, at the doors of a real cluster in scheme jwt. */
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { base64url, SignJWT } from "jose";
import { serverTest, waitFor } from "@gru/shared/testing";
import { dialects, type Json, TestClient } from "../../spear/test_client.ts";
import { type RunningProgram, TestCluster } from "./processes.ts";

const secrets = {
  GRU_TOKEN1_SECRET: "the-business-system's-secret-is-this",
  GRU_TOKEN2_SECRET: "and-this-is-between-ticket-and-spear",
};
const [modern] = dialects;
if (modern === undefined) throw new Error("no dialect");

interface Claims {
  readonly [claim: string]: unknown;
}

class Scene {
  /** What must not be in any log. */
  readonly issued = new Set<string>(Object.values(secrets));
  #users = 0;

  constructor(
    readonly ticket: RunningProgram,
    readonly spears: ReadonlyMap<string, RunningProgram>,
  ) {}

  /** One whom nobody has met, so that no limit and no connection of another attack counts. */
  stranger(): number {
    return ++this.#users;
  }

  async token1(claims: Claims, secret = secrets.GRU_TOKEN1_SECRET): Promise<string> {
    const nowS = Math.floor(Date.now() / 1000);
    const payload = { iss: "shop", aud: "gru", iat: nowS, exp: nowS + 600, name: "n", app: "1" };
    return this.#noted(
      await new SignJWT({ ...payload, ...claims }).setProtectedHeader({ alg: "HS256" })
        .sign(new TextEncoder().encode(secret)),
    );
  }

  /** A token2 as ticket would make it, but for what the attacker has changed. */
  async token2(claims: Claims, header: Claims = {}, secret = secrets.GRU_TOKEN2_SECRET) {
    const exp = Math.floor(Date.now() / 1000) + 30;
    const until = Date.now() + 60_000;
    const common = { name: "n", app: "1", users: ["*"], until, exp, jti: crypto.randomUUID() };
    return this.#noted(
      await new SignJWT({ ...common, groups: ["*"], nodes: [...this.spears.keys()], ...claims })
        .setProtectedHeader({ alg: "HS256", typ: "gru-token2+jwt", ...header })
        .sign(new TextEncoder().encode(secret)),
    );
  }

  async post(token1: string, headers: Record<string, string> = {}, query = "") {
    const response = await fetch(`${this.ticket.address}/ticket${query}`, {
      method: "POST",
      headers: { authorization: `Bearer ${token1}`, ...headers },
    });
    const body = await response.json();
    if (response.ok) this.#noted(body.data.token);
    return { status: response.status, body };
  }

  async get(userId: number, token1: string): Promise<Json> {
    const query = new URLSearchParams({ userId: `${userId}`, userName: "n", appType: "1", token1 });
    return await (await fetch(`${this.ticket.address}/ticket?${query}`)).json();
  }

  /** The answer to `auth` on a connection of its own, which a refusal ends. */
  async auth(address: string, userId: number, token2: string): Promise<Json> {
    await using client = await TestClient.connect(address, modern as typeof dialects[0]);
    const result = await client.request("auth", { id: userId, name: "n", appType: "1", token2 });
    if (result.success) this.#noted(result.data.resume);
    else await client.closed;
    return result;
  }

  async enter(userId: number, groups: unknown): Promise<TestClient> {
    const { body } = await this.post(await this.token1({ sub: `${userId}`, groups }));
    const client = await TestClient.connect(body.data.addr, modern as typeof dialects[0]);
    const token2 = body.data.token;
    const result = await client.request("auth", { id: userId, name: "n", appType: "1", token2 });
    assert.equal(result.success, true, JSON.stringify(result));
    return client;
  }

  #noted(token: string): string {
    this.issued.add(token);
    return token;
  }
}

function unsigned(header: Claims, payload: Claims): string {
  return `${base64url.encode(JSON.stringify(header))}.${
    base64url.encode(JSON.stringify(payload))
  }.`;
}

function assertRefused(result: Json, errorCode: number, message: RegExp, what: string): void {
  assert.equal(result.success, false, `${what}: ${JSON.stringify(result)}`);
  assert.equal(result.errorCode, errorCode, `${what}: ${JSON.stringify(result)}`);
  assert.match(result.msg, message, what);
}

async function falseToken1(scene: Scene): Promise<void> {
  const userId = scene.stranger();
  const nowS = Math.floor(Date.now() / 1000);
  const good = { sub: `${userId}`, groups: [1] };
  const attacks: [string, string, RegExp][] = [
    ["forged", await scene.token1(good, "another secret, guessed or stolen"), /signature/],
    ["expired", await scene.token1({ ...good, exp: nowS - 60 }), /expired/],
    ["future", await scene.token1({ ...good, iat: nowS + 600, exp: nowS + 900 }), /future/],
    ["not yet", await scene.token1({ ...good, nbf: nowS + 600 }), /nbf/],
    ["other user's", await scene.token1({ ...good, sub: `${userId + 1}` }), /another/],
    ["other issuer's", await scene.token1({ ...good, iss: "evil" }), /iss/],
    ["for another", await scene.token1({ ...good, aud: "bank" }), /aud/],
    ["alg none", unsigned({ alg: "none" }, { ...good, exp: nowS + 60 }), /token|algorithm/],
    ["a token2", await scene.token2({ sub: `${userId}` }), /signature/],
    ["garbage", "a.b.c", /not a token/],
  ];
  for (const [what, token, message] of attacks) {
    assertRefused(await scene.get(userId, token), 711, message, what);
    // With POST the token itself says who it is.
    if (what === "other user's") continue;
    const { status, body } = await scene.post(token);
    assert.equal(status, 401, what);
    assert.equal(body.errorCode, 711, what);
    assert.match(body.detail, message, what);
  }
  const oversized = await scene.token1({ ...good, x: "x".repeat(20_000) });
  assertRefused(await scene.get(userId, oversized), 711, /too long/, "oversized");
  assert.equal((await scene.get(userId, await scene.token1(good))).errorCode, 0);
}

async function falseToken2(scene: Scene): Promise<void> {
  const userId = scene.stranger();
  const { body } = await scene.post(await scene.token1({ sub: `${userId}`, groups: [1] }));
  const { name, addr, token, backupNodes: [backup] } = body.data;
  const [, elsewhere] = [...scene.spears].find(([other]) => ![name, backup.name].includes(other)) ??
    [];
  const sub = `${userId}`;
  const nowS = Math.floor(Date.now() / 1000);
  const attacks: [string, string, RegExp][] = [
    ["forged", await scene.token2({ sub }, {}, secrets.GRU_TOKEN1_SECRET), /signature/],
    ["of another kind", await scene.token2({ sub }, { typ: "JWT" }), /typ/],
    ["alg none", unsigned({ alg: "none", typ: "gru-token2+jwt" }, { sub }), /token|algorithm/],
    ["late", await scene.token2({ sub, exp: nowS - 60 }), /expired/],
    ["of dead rights", await scene.token2({ sub, until: Date.now() - 60_000 }), /expired/],
    ["a token1", await scene.token1({ sub, groups: ["*"] }), /signature/],
    ["oversized", await scene.token2({ sub, x: "x".repeat(20_000) }), /too long/],
    ["Gru's old kind", "397a79aca9daa9aa6b06dfd834e23c81", /not a token/],
    ["nothing", "", /not a token/],
  ];
  for (const [what, bad, message] of attacks) {
    assertRefused(await scene.auth(addr, userId, bad), 1003, message, what);
  }
  assertRefused(
    await scene.auth(elsewhere?.address ?? "", userId, token),
    1003,
    /other nodes/,
    "stolen to another node",
  );
  assertRefused(await scene.auth(addr, userId + 1000, token), 1003, /another user/, "stolen");
  assert.equal((await scene.auth(backup.addr, userId, token)).success, true);
  // Used at one node it is used at all.
  for (const at of [addr, backup.addr]) {
    assertRefused(await scene.auth(at, userId, token), 1003, /used already/, "replayed");
  }
  // Thousand thieves at once, one gets in.
  const fresh = await scene.token2({ sub });
  const addresses = [...scene.spears.values()].map(({ address }) => address);
  const results = await Promise.all(
    Array.from({ length: 60 }, (_, i) => scene.auth(addresses[i % 3] ?? "", userId, fresh)),
  );
  assert.equal(results.filter(({ success }) => success).length, 1);
}

async function shutGroups(scene: Scene): Promise<void> {
  const userId = scene.stranger();
  await using intruder = await scene.enter(userId, { listen: [10], send: [11] });
  await using member = await scene.enter(scene.stranger(), [10, 11, 12]);
  const subscribe = (id: unknown) =>
    intruder.request("subscribe", { userId, subscribeGroups: [{ id, presence: true }] });
  const send = (id: unknown) =>
    intruder.request("msg", { type: 1, target: { id }, content: "let me in" });
  for (const id of [11, 12, "10 ", "1e1", "*", "10*"]) {
    const result = await subscribe(id);
    assert.equal(result.success, false, String(id));
  }
  for (const id of [10, 12, "011", "11 ", "*"]) {
    assert.equal((await send(id)).success, false, String(id));
  }
  for (const id of [11, 12]) {
    assertRefused(await intruder.request("online", id), 1002, /no right/, `list ${id}`);
  }
  assert.equal((await send(11)).success, true);
  assert.equal((await subscribe(10)).success, true);
  for (const id of [12, 10]) {
    await member.request("msg", { type: 1, target: { id }, content: `to ${id}` });
  }
  assert.equal((await intruder.next("msg")).content, "to 10");
  assert.deepEqual(intruder.pending("msg"), []);
}

async function floods(scene: Scene): Promise<void> {
  const token1 = await scene.token1({ sub: `${scene.stranger()}` });
  // The program is told of one proxy, which here is us.
  const from = (address: string) => ({ "x-forwarded-for": `1.2.3.4, ${address}` });
  const counts = new Map<number, number>();
  for (let round = 0; round < 20; round++) {
    const answers = await Promise.all(
      Array.from({ length: 50 }, () => scene.post("a.b.c", from("10.9.9.9"))),
    );
    for (const { status } of answers) counts.set(status, (counts.get(status) ?? 0) + 1);
  }
  assert.ok((counts.get(429) ?? 0) > 500, JSON.stringify([...counts]));
  assert.equal((counts.get(401) ?? 0) + (counts.get(429) ?? 0), 1000);
  assert.equal((await scene.post(token1, from("10.9.9.8"))).status, 200);
  const byUser = await Promise.all(
    Array.from({ length: 60 }, (_, i) => scene.post(token1, from(`10.8.0.${i}`))),
  );
  assert.ok(byUser.some(({ status }) => status === 429));
  assert.equal(
    (await scene.post(await scene.token1({ sub: `${scene.stranger()}` }), from("10.9.9.8")))
      .status,
    200,
  );
}

/** Many connections that say a byte now and then, or nothing; while others are served. */
async function slowOnes(scene: Scene): Promise<void> {
  const spear = [...scene.spears.values()][0];
  const { hostname, port } = new URL(spear?.address ?? "");
  const closed: Promise<void>[] = [];
  const sockets: Socket[] = [];
  const openings = [
    "",
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nX: ",
    "POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n",
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n" +
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
    "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n\x81\x82\0\0\0\x0040",
  ];
  for (let i = 0; i < 400; i++) {
    const socket = connect({ host: hostname, port: Number(port) });
    sockets.push(socket);
    closed.push(new Promise((resolve) => void socket.on("close", () => resolve())));
    socket.on("error", () => {});
    socket.on("data", () => {});
    socket.write(Buffer.from(openings[i % openings.length] ?? "", "latin1"));
  }
  const dripping = setInterval(() => {
    // Not to those who are in: what they sent would be no frame.
    for (const [i, socket] of sockets.entries()) if (i % 4 !== 3) socket.write("x");
  }, 500);
  try {
    await using client = await scene.enter(scene.stranger(), [10]);
    const result = await client.request("msg", { type: 1, target: { id: 10 }, content: "x" });
    assert.equal(result.success, true);
    await Promise.all(closed);
  } finally {
    clearInterval(dripping);
    for (const socket of sockets) socket.destroy();
  }
}

serverTest({
  name:
    "a cluster in scheme jwt refuses every attack as the contract says, lives on, and logs no secret",
  needs: ["zookeeper", "redis"],
  fn: async (t) => {
    await using cluster = await TestCluster.start({ tickMs: 500 });
    const common = { "log.level": "debug" };
    const programs = [
      await cluster.add("idgen", "test1", common),
      await cluster.add("stat", "test1", common),
    ];
    const jwt = { ...common, "auth.scheme": "jwt" };
    const spears = new Map<string, RunningProgram>();
    for (const id of [1, 2, 3]) {
      const flags = { ...jwt, id, "limits.authMs": 3000, origins: "https://example.org" };
      const { GRU_TOKEN2_SECRET } = secrets;
      spears.set(`spear${id}`, await cluster.add("spear", "test1", flags, { GRU_TOKEN2_SECRET }));
    }
    const ticket = await cluster.add("ticket", "test1", {
      ...jwt,
      "auth.token1.issuer": "shop",
      "auth.token1.audience": "gru",
      "balance.backups": 1,
      "limits.perUser": 2,
      "limits.perAddress": 20,
      "limits.trustedHops": 1,
    }, secrets);
    const scene = new Scene(ticket, spears);
    await waitFor(async () => {
      const { body } = await scene.post(await scene.token1({ sub: `${scene.stranger()}` }));
      return body.success;
    });
    const steps = { falseToken1, falseToken2, shutGroups, floods, slowOnes };
    for (const [name, attack] of Object.entries(steps)) await t.step(name, () => attack(scene));

    await using last = await scene.enter(scene.stranger(), [10]);
    const sent = await last.request("msg", { type: 1, target: { id: 10 }, content: "still here" });
    assert.equal(sent.success, true);
    for (const { process } of [...programs, ...spears.values(), ticket]) {
      assert.ok(process.running);
      assert.doesNotMatch(process.output, /unhandled|uncaught|TypeError|RangeError/i);
      for (const secret of scene.issued) assert.ok(!process.output.includes(secret));
      assert.doesNotMatch(process.output, /eyJ[\w-]+\./);
    }
  },
});
