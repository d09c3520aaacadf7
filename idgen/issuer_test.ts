import assert from "node:assert/strict";
import fc from "fast-check";
import { explore, type Findings, type History, sessionMs, type Step } from "./issuer_simulation.ts";

const node = fc.nat(3);
const pauseMs = fc.nat(3 * sessionMs);
const jumpMs = fc.integer({ min: -9000, max: 9000 });

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("pause"), node, ms: pauseMs }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("jump"), node, ms: jumpMs }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("kill"), node, ms: fc.nat(sessionMs) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("stop"), node }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("freezeRegistry"), ms: pauseMs }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("wait") }) },
);

function histories(order: History["order"], without?: History["without"]): fc.Arbitrary<History> {
  return fc.record({
    order: fc.constant(order),
    clocks: fc.array(fc.integer({ min: -5000, max: 5000 }), { minLength: 2, maxLength: 4 }),
    steps: fc.array(fc.record({ step, thenMs: fc.nat(sessionMs) }), {
      minLength: 5,
      maxLength: 20,
    }),
    fates: fc.array(fc.nat(999), { minLength: 97, maxLength: 97 }),
    ...(without === undefined ? {} : { without: fc.constant(without) }),
  });
}

async function exploreAll(
  count: number,
  histories: fc.Arbitrary<History>,
  check: (found: Findings) => void,
): Promise<Findings> {
  const total: Findings = { issued: 0, duplicates: 0, inversions: 0, refused: 0, activations: 0 };
  const property = fc.asyncProperty(histories, async (history) => {
    const found = await explore(history);
    for (const key of Object.keys(found) as (keyof Findings)[]) total[key] += found[key];
    check(found);
  });
  await fc.assert(property, { numRuns: count });
  return total;
}

/** How many histories it takes to find what must not be; fails when none of them shows it. */
async function findsIn(
  count: number,
  histories: fc.Arbitrary<History>,
  isWrong: (found: Findings) => boolean,
): Promise<number> {
  const property = fc.asyncProperty(
    histories,
    async (history) => !isWrong(await explore(history)),
  );
  const result = await fc.check(property, { numRuns: count, endOnFailure: true });
  assert.ok(result.failed, `nothing found in ${count} histories`);
  return result.numRuns;
}

Deno.test("strict: no duplicate and no inversion in 1500 histories", async () => {
  const total = await exploreAll(1500, histories("strict"), (found) => {
    assert.equal(found.duplicates, 0);
    assert.equal(found.inversions, 0);
  });
  // What is explored is worth it: hundreds of failovers, with ids before and after.
  assert.ok(total.activations > 1500, `only ${total.activations} activations`);
  assert.ok(total.issued > 100_000, `only ${total.issued} ids`);
});

Deno.test("unique: no duplicate in 1000 histories", async () => {
  const total = await exploreAll(
    1000,
    histories("unique"),
    (found) => assert.equal(found.duplicates, 0),
  );
  assert.ok(total.activations > 2000, `only ${total.activations} activations`);
});

Deno.test("strict and unique: leases that are never honoured make no duplicate", async () => {
  for (const order of ["strict", "unique"] as const) {
    await exploreAll(
      150,
      histories(order, "lease"),
      (found) => assert.equal(found.duplicates, 0),
    );
  }
});

Deno.test("the explorer finds inversions when the lease is not asked", async () => {
  await findsIn(2000, histories("strict", "lease"), (found) => found.inversions > 0);
});

Deno.test("the explorer finds duplicates when the compare-and-set is taken out", async () => {
  await findsIn(4000, histories("unique", "compareAndSet"), (found) => found.duplicates > 0);
});

Deno.test("the explorer finds inversions when the compare-and-set is taken out", async () => {
  await findsIn(4000, histories("strict", "compareAndSet"), (found) => found.inversions > 0);
});
