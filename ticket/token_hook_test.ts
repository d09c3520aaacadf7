import assert from "node:assert/strict";
import { loadConfig } from "@gru/shared/config";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { receiver } from "@gru/shared/webhooks/receiver";
import { spearService } from "@gru/spear/contract";
import { edgeApp } from "./edge.ts";
import { startTicket, ticketSchema } from "./ticket.ts";
import { verifier } from "./token.ts";

const secrets = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const token2Secret = "our-own-secret-of-32-characters-!";
const environment: Record<string, string> = {
  GRU_TOKEN2_SECRET: token2Secret,
  GRU_ADMISSION_SECRET: secrets,
};

function load(flags: Record<string, string>, given = environment) {
  return loadConfig({
    program: "ticket",
    schema: ticketSchema,
    profiles: new URL("./profiles/", import.meta.url),
    args: Object.entries({ "auth.scheme": "hook", port: "0", ...flags })
      .map(([key, value]) => `--${key}=${value}`),
    environment: (name) => given[name],
  });
}

/** A business system that knows one session: `abc` is Ann, user 42. */
function businessSystem(asked: string[]) {
  const app = receiver({
    secrets,
    decide: {
      admission: ({ token1 }) => {
        asked.push(token1);
        if (token1 === "none") return { action: "allow", userId: "zero" };
        if (token1 === "odd") return { action: "allow", userId: 42, groups: [1.5] };
        if (token1 !== "abc") return { action: "refuse", reason: "your session has ended" };
        return {
          action: "allow",
          userId: 42,
          userName: "Ann",
          groups: { listen: ["room:*"], send: [10] },
          rightsMs: 60_000,
          ttl: 60,
        };
      },
    },
  });
  return Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, app.fetch);
}

Deno.test("with scheme hook the business system says who a client is, at ticket and at its edge", async (t) => {
  await using stack = new AsyncDisposableStack();
  const asked: string[] = [];
  const server = businessSystem(asked);
  stack.defer(() => server.shutdown());
  const url = `http://127.0.0.1:${server.addr.port}/decisions`;
  const registry = new MemoryRegistry();
  const config = load({ "auth.admission.url": url, "auth.admission.allowPrivate": "true" });
  const ticket = stack.use(await startTicket(config, { registry }));
  const edge = edgeApp({
    ...environment,
    GRU_AUTH_SCHEME: "hook",
    GRU_NODES_URL: `${ticket.address}/nodes`,
    GRU_ADMISSION_URL: url,
    GRU_ADMISSION_ALLOW_PRIVATE: "true",
  });
  const platforms = {
    ticket: (path: string, init?: RequestInit) => fetch(`${ticket.address}${path}`, init),
    edge: async (path: string, init?: RequestInit) => await edge.request(path, init),
  };
  stack.use(
    await registry.register({
      ...{ service: spearService, name: "spear1" },
      addresses: { client: "http://127.0.0.1:31001" },
      startedAt: 0,
      meta: { load: 0 },
    }),
  );
  for (const [name, ask] of Object.entries(platforms)) {
    await t.step(name, async () => {
      const get = async (token1: string, userId = "42") =>
        await (await ask(`/ticket?userId=${userId}&userName=Ann&appType=1&token1=${token1}`))
          .json();
      const good = await get("abc");
      assert.equal(good.errorCode, 0, JSON.stringify(good));
      const spear = verifier({ scheme: "jwt", token2Secret, skewMs: 5000 }, "spear1");
      const claims = { userId: "42", userName: "Ann", appType: "1" };
      const { grant } = await spear.check(claims, "", good.data.token);
      assert.deepEqual(grant.rights, { listen: ["room:*"], send: [10], users: ["*"] });
      assert.ok((grant.rightsUntil ?? Infinity) <= Date.now() + 60_000);
      const before = asked.length;
      assert.equal((await get("abc")).errorCode, 0);
      assert.equal(asked.length, before, "asked again within the ttl");

      const refused = await get("old");
      assert.equal(refused.errorCode, 711);
      assert.equal(refused.msg, "not admitted: your session has ended");
      const other = await get("abc", "43");
      assert.equal(other.errorCode, 711);
      assert.match(other.msg, /belongs to another/);
      for (const bad of ["none", "odd"]) {
        const undecided = await get(bad);
        assert.equal(undecided.errorCode, 750, JSON.stringify(undecided));
        assert.equal(undecided.msg, "it cannot be decided now");
      }
      const post = await ask("/ticket", {
        method: "POST",
        headers: { authorization: "Bearer abc" },
      });
      assert.equal((await post.json()).errorCode, 0);
    });
  }
  const metrics = await (await fetch(`${ticket.address}/metrics`)).text();
  assert.match(metrics, /gru_decisions_total\{decision="admission",answer="failed",.*\} 2/);
});

Deno.test("a bad admission is named before ticket starts", async (t) => {
  const url = "https://example.com/decisions";
  for (
    const [flags, given, message] of [
      [{}, environment, /auth\.admission\.url: missing; scheme hook needs/],
      [{ url: "ftp://x/" }, environment, /auth\.admission\.url: is "ftp:.*expected http/],
      [{ url: "http://127.1/" }, environment, /admission\.url: .*127\.0\.0\.1 is not a public/],
      [{ url }, { GRU_TOKEN2_SECRET: token2Secret }, /admission\.secret: .*GRU_ADMISSION_SECRET/],
      [
        { url },
        { ...environment, GRU_ADMISSION_SECRET: "abc" },
        /secret: secret 1: expected whsec_/,
      ],
      [{ url }, { GRU_ADMISSION_SECRET: secrets }, /token2Secret: .*scheme hook needs/],
      [{ url, deadlineMs: "0" }, environment, /admission\.deadlineMs: is 0/],
      [{ url, onFailure: "allow" }, environment, /auth\.admission\.onFailure/],
    ] as const
  ) {
    await t.step(String(message), () => {
      const named = Object.entries(flags).map(([key, value]) => [`auth.admission.${key}`, value]);
      assert.throws(() => load(Object.fromEntries(named), given), message);
    });
  }
  load({ "auth.admission.url": url });
  assert.throws(
    () => edgeApp({ ...environment, GRU_AUTH_SCHEME: "hook", GRU_NODES_URL: "http://x/nodes" }),
    /GRU_ADMISSION_URL: scheme hook needs/,
  );
});
