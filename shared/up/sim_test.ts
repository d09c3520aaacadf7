import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { checkGuards } from "./prove.ts";
import { found } from "./sim_found.ts";
import { play } from "./sim_play.ts";
import { search } from "./sim_search.ts";
import { draw } from "./sim_steps.ts";

/** Enough to meet every kind of fault; the long search is `deno task soak`. */
const histories = 150;

Deno.test("whatever happens to a cluster, no promise is broken", async () => {
  let [delivered, accepted] = [0, 0];
  const { played, found: broken } = await search({
    from: 1,
    histories,
    onHistory: (_, outcome) => {
      delivered += outcome.delivered;
      accepted += outcome.accepted;
    },
  });
  assert.equal(broken, undefined, JSON.stringify(broken));
  assert.equal(played, histories);
  // The histories are about something.
  assert.ok(accepted > 20 * histories, `${accepted} accepted`);
  assert.ok(delivered > 40 * histories, `${delivered} delivered`);
});

Deno.test("a seed always plays the same history", async () => {
  for (const seed of ["3", "11", "27"]) {
    const [first, second] = [[], []] as [string[], string[]];
    assert.deepEqual(await play(draw(seed), first), await play(draw(seed), second));
    assert.deepEqual(first, second);
  }
});

Deno.test("each guard that the gate takes out is found in the code", () => {
  checkGuards(fileURLToPath(new URL("../../", import.meta.url)));
});

for (const [what, history] of Object.entries(found)) {
  Deno.test(`once found: ${what}`, async () => {
    assert.deepEqual((await play(history)).violations, []);
  });
}
