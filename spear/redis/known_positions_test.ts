import assert from "node:assert/strict";
import { waitFor } from "@gru/shared/testing/harness";
import { groupTarget, type Target } from "../wire.ts";
import { KnownPositions } from "./known_positions.ts";

const [there, away, back] = ["1", "2", "3"].map(groupTarget) as [Target, Target, Target];

Deno.test("KnownPositions forgets what its server has had for long enough, and nothing of one that is away or has just come back", async () => {
  const keepMs = 40;
  using known = new KnownPositions({
    keepMs,
    provenAt: (target) =>
      target === there ? 0 : target === back ? performance.now() - keepMs / 2 : undefined,
  });
  for (const target of [away, back, there]) known.note({ target, epoch: "e", seq: 1 });
  const targets = () => [...known].map(({ target }) => target);
  await waitFor(() => !targets().includes(there));
  assert.deepEqual(targets(), [away, back]);
});

Deno.test("KnownPositions keeps the highest of each epoch", () => {
  using known = new KnownPositions({ keepMs: 60_000, provenAt: () => 0 });
  for (const [epoch, seq] of [["e", 2], ["f", 1], ["e", 1], ["f", 3]] as const) {
    known.note({ target: there, epoch, seq });
  }
  assert.deepEqual([...known], [
    ...[["e", 2], ["f", 3]].map(([epoch, seq]) => ({ target: there, epoch, seq })),
  ]);
});
