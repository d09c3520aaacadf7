import assert from "node:assert/strict";
import { agrees, publishedClaim, watchAgreement } from "./agreement.ts";
import { logger } from "./log.ts";
import { Readiness } from "./readiness.ts";
import { MemoryRegistry } from "./registry/memory.ts";

const claimOf = (...secrets: string[]) => ({ key: "tokens", use: "jwt", secrets });
const published = (...secrets: string[]) => publishedClaim(claimOf(...secrets));

Deno.test("programs agree when each accepts what the other one signs with", () => {
  assert.equal(agrees(published("a"), published("a")), true);
  assert.equal(agrees(published("a"), published("b")), false);
  // The steps of a rotation: a; a, b; b, a; b.
  const steps = [["a"], ["a", "b"], ["b", "a"], ["b"]].map((secrets) => published(...secrets));
  for (const [i, step] of steps.entries()) {
    for (const other of steps.slice(i, i + 2)) {
      assert.deepEqual([agrees(step, other), agrees(other, step)], [true, true]);
    }
  }
  assert.equal(agrees(published("a"), published("b", "c")), false);
  assert.equal(agrees("jwt 1234", "gru 1234"), false);
  assert.equal(agrees("key", "key 1234"), false);
  assert.equal(agrees("key 1234", undefined), true);
});

Deno.test("a fingerprint tells sixteen bits of a secret and no more", () => {
  assert.match(published("a secret"), /^jwt [\da-f]{4}$/);
});

Deno.test("a newcomer with another secret does not serve, and does not disturb those who serve", async () => {
  await using registry = new MemoryRegistry();
  async function enter(name: string, secret: string) {
    const readiness = new Readiness(name, logger("test"));
    const claim = claimOf(secret);
    const meta = { tokens: publishedClaim(claim) };
    const of = { service: "spear", name, startedAt: 0, addresses: {}, meta };
    const registration = await registry.register(of);
    readiness.listen(() => {
      void registration.update({ addresses: readiness.serving ? { rpc: `http://${name}` } : {} });
    });
    const watch = await watchAgreement({
      ...{ registry, name, readiness, claim, services: ["spear"] },
      secret: "the secret (GRU_TOKEN2_SECRET)",
    });
    readiness.start();
    return {
      readiness,
      leave: async () => {
        watch[Symbol.dispose]();
        readiness[Symbol.dispose]();
        await registration[Symbol.asyncDispose]();
      },
    };
  }
  const first = await enter("spear1", "right");
  const wrong = [await enter("spear2", "wrong"), await enter("spear3", "wrong")];
  assert.equal(first.readiness.serving, true);
  for (const { readiness } of wrong) {
    assert.equal(readiness.serving, false);
    assert.match(readiness.missing.tokens ?? "", /GRU_TOKEN2_SECRET.*spear1/);
  }
  // What is left agrees with itself.
  await first.leave();
  assert.deepEqual(wrong.map(({ readiness }) => readiness.serving), [true, true]);
  for (const { leave } of wrong) await leave();
});
