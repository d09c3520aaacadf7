/** The soak's judgement, and a soak of a minute or two: each event once, after which there is what there was before. */
import assert from "node:assert/strict";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import fc from "fast-check";
import { events, faultsOf, type Round, SoakCluster } from "./soak_cluster.ts";
import { judge, lineOf, type Sample, type Verdict } from "./soak_measures.ts";

function judged(measure: string, values: readonly number[]): Verdict {
  const [verdict] = judge(values.map((value) => new Map([[measure, value]])));
  assert.ok(verdict !== undefined);
  return verdict;
}

/** Watches may rise by 1. Of three samples in a quarter one may be far off, of two it may not. */
const noise = fc.array(fc.double({ min: 0, max: 0.9, noNaN: true }), {
  minLength: 12,
  maxLength: 60,
});

Deno.test("what stays within its bound is level, with one sample that is far off, and after a fall", () => {
  fc.assert(fc.property(noise, fc.nat(), fc.nat(1000), (values, at, far) => {
    const odd = values.with(at % values.length, far);
    assert.equal(judged("watches spear1", odd).grows, false);
    const fallen = values.map((value, i) => i < values.length / 3 ? value + far : value);
    assert.equal(judged("watches spear1", fallen).grows, false);
  }));
});

Deno.test("what rises by more than its bound grows, whatever the noise, and what cannot be measured is not level", () => {
  fc.assert(fc.property(noise, fc.double({ min: 4, max: 1000, noNaN: true }), (values, rise) => {
    const rising = values.map((value, i) => value + rise * i / (values.length - 1));
    assert.equal(judged("watches spear1", rising).grows, true);
  }));
  assert.equal(judged("watches", [1, 1, NaN, NaN, NaN]).grows, true);
  assert.equal(judged("(memory) redis", [1, 100, 1000, 10_000]).grows, false);
});

serverTest({
  name: "after each event of a soak there is what there was before it, and nothing is lost",
  needs: ["zookeeper", "redis"],
  fn: async () => {
    await using cluster = await SoakCluster.start({
      ...{ seed: 1, clients: 60, messagesPerSecond: 60, historyMs: 60_000 },
    });
    // All connections are there from the first round on.
    const rounds: Round[] = [await cluster.round("", 2000)];
    const before = await there(cluster);
    for (const event of cluster.shuffled()) rounds.push(await cluster.round(event, 2000));
    assert.equal(rounds.length, 1 + Object.keys(events).length);
    assert.deepEqual(rounds.flatMap((round) => faultsOf(round)), []);
    for (const { event, counts } of rounds) assert.ok(counts.accepted > 60, event);

    const after = await there(cluster);
    // Sessions that ended without a word, and what stat keeps of nodes that are gone, last a few seconds more.
    await waitFor(async () => risen(before, await there(cluster)).length === 0, {
      timeoutMs: 60_000,
    }).catch(() => {});
    assert.deepEqual(risen(before, await there(cluster)), [], lineOf(after.sample));
  },
});

interface There {
  readonly sample: Sample;
  readonly znodes: readonly string[];
}

async function there(cluster: SoakCluster): Promise<There> {
  const paths = await cluster.servers.zookeeper.pathsBelow("/gru");
  // One for each service, from the first on of its programs that was stopped in order.
  const znodes = paths.filter((path) => !path.startsWith("/gru/cells/farewells%2F"))
    // The active one.
    .map((path) => path.replace(/^(.*services.idgen.)idgen\d$/, "$1idgen"));
  return { sample: await cluster.sample(), znodes };
}

/** What there is more of, but memory, and keys that end by themselves. */
function risen(before: There, after: There): string[] {
  const more = judge([before.sample, after.sample])
    .filter(({ measure, grows }) => grows && !/^(memory|keys|data|znodes)/.test(measure))
    .map(({ measure, first, last }) => `${measure}: ${first} → ${last}`);
  return [...more, ...after.znodes.filter((path) => !before.znodes.includes(path))];
}
