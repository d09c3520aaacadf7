/** What a business system is told of a publication whose outcome is not known, and that repeating it is safe. */
import assert from "node:assert/strict";
import { loadConfig } from "@gru/shared/config";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { localClient } from "@gru/shared/rpc/local";
import { serverTest } from "@gru/shared/testing/harness";
import { startRedis } from "@gru/shared/testing/redis";
import { idgenContract } from "@gru/idgen/contract";
import { idgenSchema, startIdgen } from "../../idgen/idgen.ts";
import { singleSpear } from "../../spear/spear_testing.ts";
import { startStat, statSchema } from "../../stat/stat.ts";

serverTest({
  name:
    "a publication in doubt is answered by 504 unknown, and the same key finds out what became of it",
  needs: "redis",
  fn: async () => {
    await using redis = await startRedis();
    await using registry = new MemoryRegistry();
    const args = ["--registry=memory:", "--port=0"];
    const program = <const P extends string>(program: P) => ({
      program,
      profiles: new URL(`../../${program}/profiles/`, import.meta.url),
      environment: () => undefined,
    });
    await using stat = await startStat(
      loadConfig({
        ...program("stat"),
        schema: statSchema,
        args: [...args, "--httpPort=0", "--redis=memory:"],
      }),
      { registry },
    );
    await using idgen = await startIdgen(
      loadConfig({ ...program("idgen"), schema: idgenSchema, args }),
      { registry },
    );
    await using _spear = await singleSpear({
      ...{ mode: "redis", registry: "memory:", redis: redis.url, monitorPort: 0 },
      publishMs: 1000,
    }, { registry, idgen: localClient(idgenContract, idgen.handlers) });
    const api = `http://127.0.0.1:${stat.httpPort}`;
    const publish = async (key?: string) => {
      const response = await fetch(`${api}/groups/10/messages`, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          ...(key === undefined ? {} : { "idempotency-key": key }),
        },
        body: JSON.stringify({ content: `by ${key}` }),
      });
      return { status: response.status, answer: await response.json() };
    };
    assert.equal((await publish("first")).status, 200);
    redis.freeze();
    const [keyed, keyless] = await Promise.all([publish("second"), publish()]);
    for (const { status, answer } of [keyed, keyless]) {
      assert.equal(status, 504);
      assert.equal(answer.error.code, "unknown");
    }
    assert.match(keyed.answer.error.message, /repeat it with the same idempotency-key/);
    assert.match(keyless.answer.error.message, /may arrive twice/);
    redis.thaw();
    const again = await publish("second");
    assert.equal(again.status, 200);
    assert.deepEqual(await publish("second"), again);
    const { messages } = await (await fetch(`${api}/groups/10/history`)).json();
    const contents = messages.map(({ content }: { content: string }) => content);
    assert.deepEqual(contents.filter((content: string) => content === "by second").length, 1);
  },
});
