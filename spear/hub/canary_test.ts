import assert from "node:assert/strict";
import { logger } from "@gru/shared/log";
import { waitFor } from "@gru/shared/testing/harness";
import { MemoryBus } from "../broker/memory.ts";
import { Canary, canaryTarget } from "./canary.ts";
import { Hub, type Member } from "./hub.ts";

/** Nodes over one bus, each of which can be made deaf. */
class Nodes implements AsyncDisposable {
  readonly live = new Set<string>();
  readonly #bus = new MemoryBus({ size: 10, ageMs: 60_000 });
  readonly #stack = new AsyncDisposableStack();

  add(node: string) {
    this.live.add(node);
    const hub = new Hub<Member>({ fanOut: () => {} });
    let deaf = false;
    const broker = this.#bus.connect({
      message: (...given) => deaf || hub.message(...given),
      disrupted: () => hub.disrupted(),
      seen: () => hub.seen(),
    });
    hub.connect(broker);
    this.#stack.use(broker);
    this.#stack.defer(() => hub.close());
    const [periodMs, log] = [20, logger("canary")];
    const canary = new Canary({ node, hub, broker, periodMs, live: () => this.live, log });
    this.#stack.use(canary);
    const heard = (name: string) => canary.heard().find((one) => one.node === name);
    return { canary, heard, setDeaf: (value: boolean) => deaf = value };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

Deno.test("every node hears every other one and itself, and knows how late", async () => {
  await using nodes = new Nodes();
  const [one, two, three] = [nodes.add("spear1"), nodes.add("spear2"), nodes.add("spear3")];
  await waitFor(() =>
    [one, two, three].every(({ canary }) =>
      canary.heard().length === 3 && canary.heard().every(({ latencyMs }) => latencyMs !== null)
    )
  );
  for (const { canary } of [one, two, three]) {
    assert.deepEqual(canary.heard().map(({ node }) => node), ["spear1", "spear2", "spear3"]);
    assert.deepEqual(canary.heard().map(({ lost }) => lost), [0, 0, 0]);
    assert.deepEqual([canary.lost, canary.silent], [0, 0]);
  }
});

Deno.test("a node that hears nobody says so, and is heard; one that is gone is forgotten", async () => {
  await using nodes = new Nodes();
  const [one, two] = [nodes.add("spear1"), nodes.add("spear2")];
  await waitFor(() => one.heard("spear2") !== undefined && two.heard("spear1") !== undefined);
  two.setDeaf(true);
  await waitFor(() => two.canary.silent === 2);
  assert.equal(one.canary.silent, 0);
  two.setDeaf(false);
  // The messages of the deaf time are read from history: late, but not lost.
  await waitFor(() => two.canary.silent === 0);
  assert.equal(two.canary.lost, 0);
  nodes.live.delete("spear2");
  await waitFor(() => one.heard("spear2") === undefined);
});

Deno.test("what history has lost meanwhile counts as lost", async () => {
  await using nodes = new Nodes();
  const [one, two] = [nodes.add("spear1"), nodes.add("spear2")];
  await waitFor(() => two.heard("spear1") !== undefined);
  two.setDeaf(true);
  const before = one.heard("spear1")?.received ?? 0;
  await waitFor(() => (one.heard("spear1")?.received ?? 0) > before + 20);
  two.setDeaf(false);
  await waitFor(() => two.canary.lost > 0);
});

Deno.test("the canary's target is no group that a client could name", async () => {
  const { isGroupId } = await import("../identifiers.ts");
  assert.equal(isGroupId(canaryTarget.slice(2)), false);
});
