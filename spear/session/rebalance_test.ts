import assert from "node:assert/strict";
import { logger } from "@gru/shared/log";
import { waitFor } from "@gru/shared/testing/harness";
import { Ring } from "@gru/ticket/contract";
import type { SpearNode } from "../contract.ts";
import { Rebalance, type RebalanceOptions } from "./rebalance.ts";

const stepMs = 5;

class FakeSession {
  closed = false;
  readonly userId: string;
  readonly moves: string[] = [];
  readonly #leave: ((to: string) => void) | undefined;

  get placeKey(): string {
    return this.userId;
  }

  constructor(userId: string, leave?: (to: string) => void) {
    this.userId = userId;
    this.#leave = leave;
  }

  // deno-lint-ignore require-await -- as a session's
  async move({ name }: { name: string }): Promise<void> {
    this.moves.push(name);
    this.#leave?.(name);
  }
}

/** Node `a` has all clients, `b` has none. */
function scene(count: number, changes: Partial<RebalanceOptions> = {}, follows = true) {
  const loads = new Map([["a", count], ["b", 0]]);
  const sessions = new Set<FakeSession>();
  for (let i = 1; i <= count; i++) {
    const session: FakeSession = new FakeSession(`${i}`, (to) => {
      if (!follows) return;
      session.closed = true;
      sessions.delete(session);
      loads.set("a", sessions.size);
      loads.set(to, (loads.get(to) ?? 0) + 1);
    });
    sessions.add(session);
  }
  const all = [...sessions];
  const state = { isDraining: false, isKnown: true };
  const nodes = (): SpearNode[] =>
    ["a", "b"].map((name) => ({ name, addr: `http://${name}`, load: loads.get(name) ?? 0 }));
  const ring = new Ring(nodes());
  const rebalance = new Rebalance({
    node: "a",
    sessions,
    nodes: () => state.isKnown ? { all: nodes(), ring } : undefined,
    isDraining: () => state.isDraining,
    automatic: false,
    perSecond: 100_000,
    log: logger("test"),
    stepMs,
    ...changes,
  });
  const homeOfB = all.filter(({ userId }) => ring.order(userId)[0]?.name === "b");
  return { rebalance, all, sessions, loads, state, homeOfB };
}

function steps(count: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, count * stepMs));
}

Deno.test("Rebalance moves clients to their own node, and nobody else", async () => {
  const { rebalance, all, homeOfB } = scene(60);
  using _ = rebalance;
  await steps(5);
  assert.equal(rebalance.status().asked, 0, "it waits for the command");
  rebalance.begin();
  await waitFor(() => rebalance.status().moved === Math.min(30, homeOfB.length));
  const moved = all.filter(({ moves }) => moves.length > 0);
  assert.ok(moved.every((session) => homeOfB.includes(session) && session.moves.length === 1));
});

Deno.test("Rebalance keeps to the rate, also when it is begun twice", async () => {
  const { rebalance, loads } = scene(60, { perSecond: 200 });
  using _ = rebalance;
  rebalance.begin();
  rebalance.begin();
  const began = performance.now();
  await waitFor(() => (loads.get("b") ?? 0) >= 10, { timeoutMs: 10_000 });
  // One client for each step of 5 ms; the first one at its end.
  assert.ok(performance.now() - began > 9 * stepMs);
});

Deno.test("Rebalance asks a client that does not follow once only", async () => {
  const { rebalance, all, homeOfB } = scene(40, {}, false);
  using _ = rebalance;
  rebalance.begin();
  await waitFor(() => rebalance.status().asked >= Math.min(20, homeOfB.length));
  await steps(10);
  assert.ok(all.every(({ moves }) => moves.length <= 1));
  assert.equal(rebalance.status().moved, 0);
});

Deno.test("Rebalance stops when the node is drained, and waits while loads are not known", async () => {
  const { rebalance, state } = scene(60);
  using _ = rebalance;
  state.isKnown = false;
  rebalance.begin();
  await steps(5);
  assert.deepEqual(rebalance.status(), { running: true, asked: 0, moved: 0 });
  state.isDraining = true;
  await waitFor(() => !rebalance.status().running);
  state.isKnown = true;
  assert.equal(rebalance.begin().running, false);
  await steps(5);
  assert.equal(rebalance.status().asked, 0);
});

Deno.test("Rebalance begins by itself where it may, and not for loads that fit", async () => {
  const { rebalance } = scene(60, { automatic: true });
  using _ = rebalance;
  await waitFor(() => rebalance.status().asked > 0);
  const { rebalance: calm, loads } = scene(60, { automatic: true });
  using _calm = calm;
  loads.set("b", 58);
  await steps(20);
  assert.equal(calm.status().asked, 0);
});
