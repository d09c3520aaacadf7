/**
 * Presence while its Redis fails: two spears with clients who stay, two stats on one server, behind Sentinel and on a Cluster. At every
 * moment an answer is complete or an error; that somebody is not there is never said of a client who is.
 */
import assert from "node:assert/strict";
import { loadConfig } from "@gru/shared/config";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { startRedis, withRedis } from "@gru/shared/testing/redis";
import { RedisClusterServers, SentinelServers } from "@gru/shared/testing/redis_servers";
import { singleSpear } from "../../spear/spear_testing.ts";
import { dialects, TestClient } from "../../spear/test_client.ts";
import { startStat, statSchema } from "../../stat/stat.ts";
import { assertSuccess } from "./scenario.ts";

const [modern] = dialects;
const userIds = [1, 2, 3, 4];
const timing = { timeoutMs: 60_000 };

/** What is asked of each stat, and what of the answer must always be the same. */
const questions: readonly (readonly [path: string, facts: (answer: Answer) => unknown])[] = [
  ["/getGroupStat?groupId=10", ({ userIds }) => userIds],
  ["/groups/10/users", ({ users }) => users.map(({ userId }: Answer) => Number(userId)).sort()],
  ["/users", ({ users }) => users.map(({ userId }: Answer) => Number(userId)).sort()],
  ["/groups/10", ({ nodes }) => nodes.map(({ users }: Answer) => users)],
  ["/groups", ({ groups }) => groups[0]?.nodes.map(({ users }: Answer) => users)],
  ["/nodes", ({ nodes }) => nodes.map(({ users }: Answer) => users)],
];
// deno-lint-ignore no-explicit-any
type Answer = any;

const expected = [userIds, userIds, userIds, [2, 2], [2, 2], [2, 2]].map((one) =>
  JSON.stringify(one)
);

/** Asks all the time, and remembers each answer with status 200 that was not complete. */
class Watch implements AsyncDisposable {
  readonly wrong: string[] = [];
  refused = 0;
  right = 0;
  /** Of each question at each stat: whether the last answer was complete. */
  readonly #isRight: boolean[] = [];
  #round = 0;
  #ended = false;
  readonly #asking: Promise<unknown>;

  constructor(addresses: readonly string[]) {
    this.#asking = Promise.all(
      addresses.flatMap((address, a) =>
        questions.map((_, q) => this.#askOn(address, q, a * questions.length + q))
      ),
    );
  }

  get allRight(): boolean {
    return this.#isRight.length > 0 && Object.values(this.#isRight).every(Boolean);
  }

  /** Resolves when all questions that are asked from now on are answered completely; the milliseconds that this took. */
  async healed(): Promise<number> {
    this.#round++;
    this.#isRight.fill(false);
    const began = performance.now();
    await waitFor(() => this.allRight, { ...timing, what: "presence to be right again" });
    return performance.now() - began;
  }

  /** Some more answers of any kind. */
  async goesOn(answers = 200): Promise<void> {
    const count = () => this.right + this.refused + this.wrong.length;
    const until = count() + answers;
    await waitFor(() => count() >= until, timing);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    await this.#asking;
  }

  async #askOn(address: string, question: number, index: number): Promise<void> {
    const [path, facts] = questions[question] ?? ["", () => undefined];
    this.#isRight[index] = false;
    while (!this.#ended) {
      const round = this.#round;
      const response = await fetch(`http://${address}${path}`);
      const answer = await response.json();
      let isRight = false;
      if (!response.ok) {
        this.refused++;
        assert.equal(response.status, 503, JSON.stringify(answer));
      } else if (JSON.stringify(facts(answer)) === expected[question]) {
        this.right++;
        isRight = true;
      } else this.wrong.push(`${path}: ${JSON.stringify(answer)}`);
      if (round === this.#round) this.#isRight[index] = isRight;
      // Asks some hundred times a second in all.
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

function faultTest<S extends AsyncDisposable & { readonly url: string }>(
  name: string,
  start: () => Promise<S>,
  cause: (servers: S, watch: Watch, step: (name: string) => Promise<void>) => Promise<void>,
): void {
  serverTest({
    name: `presence is right or refused, and never empty, when ${name}`,
    needs: "redis",
    fn: async () => {
      await using servers = await start();
      const redis = servers.url;
      await using registry = new MemoryRegistry();
      await using stack = new AsyncDisposableStack();
      const addresses: string[] = [];
      for (const id of [1, 2]) {
        const stat = await startStat(
          loadConfig({
            ...{ program: "stat", schema: statSchema, environment: () => undefined },
            profiles: new URL("../../stat/profiles/", import.meta.url),
            args: [
              ...["--registry=memory:", "--port=0", "--httpPort=0", "--log.level=error"],
              ...[`--id=${id}`, `--redis=${redis}`],
            ],
          }),
          { registry },
        );
        stack.use(stat);
        addresses.push(`127.0.0.1:${stat.httpPort}`);
      }
      for (const id of [1, 2]) {
        const { address } = stack.use(
          await singleSpear(
            { mode: "redis", registry: "memory:", redis, monitorPort: 0, id },
            { registry },
          ),
        );
        for (const userId of userIds.filter((userId) => userId % 2 === id % 2)) {
          if (modern === undefined) throw new Error("no dialects");
          const client = stack.use(await TestClient.connect(address, modern));
          assertSuccess(await client.request("auth", { id: userId }));
          const subscribeGroups = [{ id: 10 }];
          assertSuccess(await client.request("subscribe", { userId, subscribeGroups }));
        }
      }
      await waitFor(async () => {
        const answers = addresses.map((address) =>
          fetch(`http://${address}/getGroupStat?groupId=10`).then((response) => response.json())
        );
        return (await Promise.all(answers)).every((answer) =>
          JSON.stringify(answer.userIds) === expected[0]
        );
      }, { what: "everybody to be there" });

      await using watch = new Watch(addresses);
      await watch.healed();
      const step = async (what: string) => {
        const tookMs = await watch.healed();
        await watch.goesOn();
        // deno-lint-ignore no-console
        console.log(
          `${what}: right ${tookMs.toFixed(0)} ms after the heal; ` +
            `until now right ${watch.right}, refused ${watch.refused}, wrong ${watch.wrong.length}`,
        );
        assert.deepEqual(watch.wrong, []);
      };
      await cause(servers, watch, step);
    },
  });
}

faultTest(
  "the primary behind Sentinel is killed",
  () => SentinelServers.start(),
  async ({ primary, replica }, watch, step) => {
    await primary.kill();
    await waitFor(
      // It closes its connections when it takes over.
      () =>
        withRedis(replica.port, async (redis) => /role:master/.test(await redis.info()))
          .catch(() => false),
      timing,
    );
    await step("the replica has taken over");
    assert.ok(watch.refused > 0);
  },
);

faultTest(
  "the primary of a Cluster that has the data is killed",
  () => RedisClusterServers.start({ replicas: true }),
  async (servers, watch, step) => {
    const owner = await servers.ownerOf("gru_stat");
    await owner.kill();
    await waitFor(async () => {
      return await servers.ownerOf("gru_stat").catch(() => owner) !== owner;
    }, timing);
    await step("a replica of the Cluster has taken over");
    assert.ok(watch.refused > 0);
  },
);

faultTest(
  "the slot of the data moves through a Cluster",
  () => RedisClusterServers.start({ replicas: false }),
  async (servers, _watch, step) => {
    for (let round = 0; round < 4; round++) {
      const at = servers.servers.indexOf(await servers.ownerOf("gru_stat"));
      const next = servers.servers[(at + 1) % servers.servers.length];
      if (next === undefined) throw new Error("no server");
      await servers.move("gru_stat", next);
      await step("the slot has moved");
    }
  },
);

faultTest(
  "one server is emptied, restarted empty, frozen for long, and a replica for a while",
  () => startRedis(),
  async (server, watch, step) => {
    await withRedis(server.port, (redis) => redis.flushall());
    await step("it was emptied");
    await server.kill();
    await server.start();
    await step("it was restarted without its data");
    // Longer than what nodes have reported lives.
    server.freeze();
    await new Promise((resolve) => setTimeout(resolve, 11_000));
    server.thaw();
    await step("it was frozen for 11 s");
    await using empty = await startRedis();
    await withRedis(server.port, (redis) => redis.replicaof("127.0.0.1", empty.port));
    const { refused } = watch;
    await waitFor(() => !watch.allRight, timing);
    await watch.goesOn(500);
    assert.ok(watch.refused > refused + 100);
    await withRedis(server.port, (redis) => redis.replicaof("NO", "ONE"));
    await step("it was a replica of an empty server");
  },
);
