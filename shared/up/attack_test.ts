/** Those who do not belong, at the doors of a real cluster in scheme jwt. */
import assert from "node:assert/strict";
import { freePort, serverTest, waitFor } from "@gru/shared/testing/harness";
import { floodsOfSpear, floodsOfTicket, slowOnes, storm } from "./attack_crowds.ts";
import { assertRefused, Scene, secrets, unsigned } from "./attack_scene.ts";
import { type RunningProgram, TestCluster } from "./processes.ts";

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

async function falseResume(scene: Scene): Promise<void> {
  const userId = scene.stranger();
  const { body } = await scene.post(await scene.token1({ sub: `${userId}`, groups: [1] }));
  const { name, addr, token, backupNodes: [backup] } = body.data;
  const elsewhere = [...scene.spears].find(([other]) => ![name, backup.name].includes(other))?.[1];
  const { data: { resume } } = await scene.auth(addr, userId, token);
  assertRefused(await scene.get(userId, resume), 711, /signature/, "as token1");
  assertRefused(await scene.auth(addr, userId + 1000, resume), 1003, /another user/, "stolen");
  assertRefused(
    await scene.auth(elsewhere?.address ?? "", userId, resume),
    1003,
    /other nodes/,
    "stolen to another node",
  );
  const changed = resume.split(".").map((part: string, i: number) =>
    i === 1 ? unsigned({}, { sub: `${userId + 1000}` }).split(".")[1] : part
  ).join(".");
  assertRefused(await scene.auth(addr, userId + 1000, changed), 1003, /signature/, "changed");
  const again = await scene.auth(backup.addr, userId, resume);
  assert.notEqual(again.data.resume, resume);
  for (const at of [addr, backup.addr]) {
    assertRefused(await scene.auth(at, userId, resume), 1003, /used already/, "resumed twice");
  }
  assert.equal((await scene.auth(addr, userId, again.data.resume)).success, true);
}

/** Ports that the public should not reach, for who does. */
async function innerDoors(scene: Scene, monitors: readonly string[]): Promise<void> {
  const byKey = (key: string | undefined): HeadersInit =>
    key === undefined ? {} : { authorization: `Bearer ${key}` };
  const { GRU_CLUSTER_KEY: right, GRU_STAT_API_KEY: apiKey } = secrets;
  for (const key of [undefined, "", "wrong", `${right}x`, right.slice(1), apiKey]) {
    for (const monitor of monitors) {
      for (const method of ["spear/kickUser", "stat/usersOfGroup", "idgen/next", "nonsense"]) {
        const response = await fetch(`${monitor}/${method}`, {
          method: "POST",
          headers: { "content-type": "application/json", ...byKey(key) },
          body: '{"userId":"1","reason":"x","groupId":"1","count":1}',
        });
        assert.equal(response.status, 401, `${monitor} ${method} with key ${key}`);
        assert.doesNotMatch(await response.text(), new RegExp(right));
      }
    }
  }
  for (const key of [undefined, "wrong", right]) {
    for (const path of ["/nodes", "/users/1/nodes", "/nonsense"]) {
      const response = await fetch(`${scene.api}${path}`, { headers: byKey(key) });
      await response.body?.cancel();
      assert.equal(response.status, 401, `${path} with key ${key}`);
    }
  }
  const response = await fetch(`${scene.api}/nodes`, { headers: byKey(apiKey) });
  await response.body?.cancel();
  assert.notEqual(response.status, 401);
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

serverTest({
  name:
    "a cluster in scheme jwt refuses every attack as the contract says, lives on, and logs no secret",
  needs: ["zookeeper", "redis"],
  fn: async (t) => {
    await using cluster = await TestCluster.start({ tickMs: 500 });
    const common = { "log.level": "debug" };
    const { GRU_CLUSTER_KEY, GRU_STAT_API_KEY, GRU_TOKEN1_SECRET, GRU_TOKEN2_SECRET } = secrets;
    const inner = { GRU_CLUSTER_KEY };
    const httpPort = freePort();
    const stat = { ...inner, GRU_STAT_API_KEY };
    const programs = [
      await cluster.add("idgen", "test1", common, inner),
      await cluster.add("stat", "test1", { ...common, httpPort }, stat),
    ];
    const jwt = { ...common, "auth.scheme": "jwt" };
    const spears = new Map<string, RunningProgram>();
    const monitors = programs.map(({ address }) => address);
    for (const id of [1, 2, 3]) {
      const monitorPort = freePort();
      monitors.push(`http://127.0.0.1:${monitorPort}`);
      const flags = {
        ...{ ...jwt, id, monitorPort, origins: "https://example.org" },
        ...{ "limits.authMs": 3000, "limits.connections": 500, "limits.messagesPerSecond": 50 },
      };
      const environment = { ...inner, GRU_TOKEN2_SECRET };
      spears.set(`spear${id}`, await cluster.add("spear", "test1", flags, environment));
    }
    const ticket = await cluster.add("ticket", "test1", {
      ...jwt,
      "auth.token1.issuer": "shop",
      "auth.token1.audience": "gru",
      "balance.backups": 1,
      "limits.perUser": 2,
      "limits.perAddress": 20,
      "limits.trustedHops": 1,
    }, { ...inner, GRU_TOKEN1_SECRET, GRU_TOKEN2_SECRET });
    const scene = new Scene(ticket, spears, `http://127.0.0.1:${httpPort}`);
    await waitFor(async () => {
      const { body } = await scene.post(await scene.token1({ sub: `${scene.stranger()}` }));
      return body.success;
    });
    const steps: Record<string, (scene: Scene) => Promise<void>> = {
      ...{ falseToken1, falseToken2, falseResume, shutGroups, floodsOfTicket, floodsOfSpear },
      ...{ slowOnes, storm, innerDoors: (scene) => innerDoors(scene, monitors) },
    };
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
