import assert from "node:assert/strict";
import { receiver } from "./receiver.ts";
import { signWebhook } from "./signature.ts";

const secrets = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const nowS = 1_700_000_000;

Deno.test("the receiver answers what is signed, and refuses what is forged, old, copied or no question", async () => {
  const app = receiver({
    secrets,
    nowS: () => nowS,
    decide: {
      subscribe: ({ groupId }) =>
        groupId === "10"
          ? { action: "allow", ttl: 60 }
          : { action: "refuse", reason: "members only" },
    },
  });
  const send = (id: string, question: object, headers: Record<string, string> = {}, age = 0) => {
    const body = JSON.stringify(question);
    return app.request("/decisions", {
      method: "POST",
      body,
      headers: { ...signWebhook(secrets, { id, timestampS: nowS - age, body }), ...headers },
    });
  };
  const question = { decision: "subscribe", userId: "1", groupId: "10" };
  const first = await send("a", question);
  assert.equal(first.status, 200);
  assert.deepEqual(await first.json(), { action: "allow", ttl: 60 });
  assert.deepEqual(await (await send("b", { ...question, groupId: "11" })).json(), {
    action: "refuse",
    reason: "members only",
  });
  assert.equal((await send("a", question)).status, 409);
  assert.equal((await send("c", question, {}, 301)).status, 401);
  assert.equal((await send("d", question, { "webhook-signature": "v1,AAAA" })).status, 401);
  assert.equal((await send("e", question, { "webhook-id": "f" })).status, 401);
  assert.equal((await send("g", { decision: "subscribe" })).status, 400);
  const { action } = await (await send("h", { decision: "admission", token1: "x" })).json();
  assert.equal(action, "refuse");
});
