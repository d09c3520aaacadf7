/// <reference lib="deno.ns" />
import assert from "node:assert/strict";
import * as fc from "fast-check";
import { Outbox, type Outgoing } from "./outbox.ts";
import type { Result } from "./wire.ts";

/** How often a node does what with a sending before it accepts it. */
type Mood = "accept" | "lose" | "lose the answer" | "refuse for now";

/** A cluster that accepts a message once, whatever happens to the answer. */
class Node {
  readonly accepted: Outgoing[] = [];
  readonly #moods: Mood[];

  constructor(moods: readonly Mood[]) {
    this.#moods = [...moods];
  }

  async send(message: Outgoing): Promise<Result | undefined> {
    await null;
    const mood = this.#moods.shift() ?? "accept";
    if (mood === "lose") return undefined;
    if (mood === "refuse for now") {
      return { success: false, errorCode: 1001, msg: "not accepted", data: null };
    }
    const known = this.accepted.findIndex(({ clientMsgId }) => clientMsgId === message.clientMsgId);
    const seq = known < 0 ? this.accepted.push(message) : known + 1;
    if (mood === "lose the answer") return undefined;
    return { success: true, errorCode: 0, msg: "", data: { id: `${seq}`, epoch: "e", seq } };
  }
}

function outboxTo(node: Node, options: { readonly messages?: number } = {}) {
  const closing = new AbortController();
  const outbox = new Outbox({
    ...{ messages: 100, characters: 1000, closed: closing.signal, ...options },
    node: async () => closing.signal.aborted ? undefined : node,
    delayMs: () => 0,
    changed() {},
  });
  return { outbox, closing };
}

const outgoing = (id: string, n: number): Outgoing => ({
  ...{ type: 1, target: { id }, content: `${n}`, clientMsgId: `${n}` },
});

const moods = fc.array(
  fc.constantFrom<Mood>("accept", "lose", "lose the answer", "refuse for now"),
  { maxLength: 30 },
);

Deno.test("whatever becomes of sendings, messages to a target are accepted once and in the order of the calls", async () => {
  await fc.assert(
    fc.asyncProperty(
      moods,
      fc.array(fc.constantFrom("a", "b"), { maxLength: 12 }),
      async (moods, targets) => {
        const node = new Node(moods);
        const { outbox } = outboxTo(node);
        const sent = targets.map((id, n) => outbox.send(outgoing(id, n)));
        const accepted = await Promise.all(sent);
        assert.equal(new Set(accepted.map(({ seq }) => seq)).size, targets.length);
        for (const id of ["a", "b"]) {
          const order = node.accepted.filter(({ target }) => target.id === id)
            .map(({ content }) => Number(content));
          assert.deepEqual(order, targets.flatMap((target, n) => target === id ? [n] : []));
        }
        assert.equal(outbox.waiting.size, 0);
      },
    ),
    { numRuns: 100 },
  );
});

Deno.test("a refusal after a sending that was not answered says that the message is in doubt", async () => {
  const node = new Node(["lose"]);
  const { outbox } = outboxTo(node);
  node.send = ((send) => async (message: Outgoing) => {
    const result = await send(message);
    return result && { ...result, success: false, errorCode: 1002, msg: "msg: no right to send" };
  })(node.send.bind(node));
  await assert.rejects(outbox.send(outgoing("a", 1)), { code: "refused", inDoubt: true });
  await assert.rejects(outbox.send(outgoing("a", 2)), { code: "refused", inDoubt: false });
});

Deno.test("when the client is closed, what was not accepted is rejected, and said to be in doubt where it is", async () => {
  const { outbox, closing } = outboxTo(new Node(Array(100).fill("lose the answer")));
  const first = outbox.send(outgoing("a", 1));
  const second = outbox.send(outgoing("a", 2));
  closing.abort();
  await assert.rejects(first, { code: "closed" });
  await assert.rejects(second, { code: "closed", inDoubt: false });
});

Deno.test("a message that was given up leaves its place to those behind it", async () => {
  const node = new Node(Array(3).fill("refuse for now"));
  const { outbox } = outboxTo(node, { messages: 2 });
  const abort = new AbortController();
  const given = outbox.send(outgoing("a", 1), abort.signal);
  const next = outbox.send(outgoing("a", 2));
  await assert.rejects(outbox.send(outgoing("a", 3)), { code: "outbox-full" });
  abort.abort();
  await assert.rejects(given, { name: "AbortError" });
  assert.equal((await next).seq, 1);
  assert.deepEqual(node.accepted.map(({ content }) => content), ["2"]);
});
