/** A node that says that it cannot keep up, and what its clients make of that. */
import assert from "node:assert/strict";
import type { Message } from "@gru/client";
import { waitFor } from "@gru/shared/testing/harness";
import { authenticated } from "../../spear/spear_testing.ts";
import type { Json } from "../../spear/test_client.ts";
import { ClientScene, online } from "./client_scene.ts";

Deno.test("a node that cannot keep up refuses messages and lists of users with a time; clients of the library lose nothing", async () => {
  let late = 0;
  await using scene = await ClientScene.start({
    spears: 1,
    spearFlags: { "limits.messagesPerSecond": 1_000_000, "limits.workPerSecond": 1_000_000 },
    overrides: { late: () => late },
  });
  const [ann, bob] = [scene.connect(1), scene.connect(2)];
  const came: Message[] = [];
  bob.group(10).on("message", (message) => came.push(message));
  ann.group(10);
  await online(ann, bob);
  await using other = await authenticated(scene.nodeOf(ann).spear.address, 3);
  const ask = async (event: string, argument: Json) =>
    await Promise.all(Array.from({ length: 300 }, () => other.request(event, argument)));
  const flood = { type: 1, target: { id: 10 }, content: "flood" };
  assert.ok((await ask("msg", flood)).every(({ success }) => success));

  late = 5;
  const refused = async (event: string, argument: Json) => {
    let first: Json;
    await waitFor(async () => {
      first = (await ask(event, argument)).find(({ success }) => !success);
      return first !== undefined;
    }, { what: `a refused ${event}` });
    return first;
  };
  const refusal = await refused("msg", flood);
  assert.equal(refusal.errorCode, 1002);
  assert.match(refusal.msg, /^msg: not accepted: this node has more to do than it can; try again/);
  assert.ok(refusal.data.retryAfterMs >= 300, `${refusal.data.retryAfterMs}`);
  assert.match(
    (await refused("online", 10)).msg,
    /^online: not accepted: this node has more to do/,
  );
  const sent = Array.from({ length: 50 }, (_, i) => ann.group(10).send(`ann ${i}`));
  await refused("msg", flood);

  late = 0;
  const accepted = await Promise.all(sent);
  const seqs = accepted.map(({ seq }) => seq);
  assert.deepEqual(seqs, seqs.toSorted((a, b) => a - b));
  const ofAnn = () => came.filter(({ fromId }) => fromId === "1").map(({ content }) => content);
  await waitFor(() => ofAnn().length >= 50);
  assert.deepEqual(ofAnn(), sent.map((_, i) => `ann ${i}`));
  const metrics = await (await fetch(`${scene.nodeOf(ann).spear.monitorAddress}/metrics`)).text();
  for (const asked of ["msg", "online"]) {
    assert.match(
      metrics,
      new RegExp(`^gru_spear_overloaded_total\\S*asked="${asked}"\\S* \\d+$`, "m"),
    );
  }
  await waitFor(async () => (await ask("msg", flood)).every(({ success }) => success));
});
