/** `deno task gru` as a process of its own against a whole cluster. */
import assert from "node:assert/strict";
import { projectRoot, slowTest, taskArguments, waitFor } from "@gru/shared/testing/harness";
import { dialects, TestClient } from "../../spear/test_client.ts";
import { assertSuccess } from "./scenario.ts";
import { upOnFreePorts } from "./up_testing.ts";

const apiKey = "a key of the API";

function gru(api: string, ...args: string[]): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: [...taskArguments("gru"), "--api", api, ...args],
    cwd: projectRoot,
    env: { GRU_STAT_API_KEY: apiKey, NO_COLOR: "1" },
    stdout: "piped",
    stderr: "piped",
  });
}

async function run(api: string, ...args: string[]) {
  const { code, stdout, stderr } = await gru(api, ...args).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).trim();
  return { code, out: text(stdout), err: text(stderr) };
}

slowTest("deno task gru publishes, kicks and lists, and says what is wrong", async () => {
  await using cluster = await upOnFreePorts((name) =>
    name === "GRU_STAT_API_KEY" ? apiKey : undefined
  );
  const { stat: api, spear1 } = cluster.addresses;
  const [, dialect = dialects[0]] = dialects;
  assert.ok(dialect);
  await using ann = await TestClient.connect(spear1, dialect);
  assertSuccess(await ann.request("auth", { id: 1 }));
  assertSuccess(
    await ann.request("subscribe", { userId: 1, subscribeGroups: [{ id: 10 }] }),
  );

  await waitFor(async () => (await run(api, "users", "--group", "10")).out === "1  spear1");
  assert.equal((await run(api, "groups")).out, "10  spear1");
  assert.match((await run(api, "nodes")).out, /^spear1 {2}1 connections {2}http:.*\nspear2 {2}0 /);

  const tail = gru(api, "tail", "--group", "10", "--json").spawn();
  const lines = tail.stdout.pipeThrough(new TextDecoderStream()).getReader();
  try {
    let heard = "";
    const reading = (async () => {
      for (let part = await lines.read(); !part.done; part = await lines.read()) {
        heard += part.value;
      }
    })();
    await waitFor(async () => {
      const sent = await run(api, "publish", "--group", "10", "hello", "--as", "7");
      assert.match(sent.out, /^accepted as \d+, number \d+$/);
      return heard !== "";
    });
    const [first = ""] = heard.split("\n");
    const { message: { content, fromId } } = JSON.parse(first);
    assert.deepEqual([content, fromId], ["hello", 7]);
    tail.kill();
    await reading;
  } finally {
    try {
      tail.kill();
    } catch {
      // It has ended.
    }
    await tail.status;
    await tail.stderr.cancel();
  }
  assert.equal((await ann.next("msg")).content, "hello");

  const once = await run(api, "publish", "--user", "1", "hi", "--once", "k", "--json");
  assert.deepEqual(await run(api, "publish", "--user", "1", "hi", "--once", "k", "--json"), once);
  assert.deepEqual(await run(api, "kick", "1", "--reason", "spam"), {
    ...{ code: 0, out: "1 connections", err: "" },
  });
  assert.equal((await ann.next("kicked")).reason, "spam");

  assert.match((await run(api, "mute", "1", "--minutes", "5")).out, /^until 2\d{3}-/);
  assert.equal((await run(api, "unmute", "1")).out, "lifted");
  assert.deepEqual(await run(api, "unmute", "--group", "10", "1"), {
    ...{ code: 1, out: "", err: "not_found: userId: user 1 is not muted in group 10" },
  });

  const refused = await run(api, "kick", "--group", "x".repeat(300));
  assert.equal(refused.code, 1);
  assert.match(refused.err, /^invalid_argument: groupId: /);
  for (
    const [args, says] of [
      [["publish", "hello"], /^publish: expected --group or --user/],
      [["kick"], /^kick: expected USER, got 0 words/],
      [["kick", "1", "--ban", "x"], /^--ban: expected a number of minutes, is "x"/],
      [["tail"], /^tail: expected --group or --user/],
      [["dance"], /^there is no command dance/],
      [["nodes", "--nope"], /nope/],
    ] as const
  ) {
    const { code, err } = await run(api, ...args);
    assert.equal(code, 2, args.join(" "));
    assert.match(err, says);
  }
  const wrong = await new Deno.Command(Deno.execPath(), {
    args: [...taskArguments("gru"), "--api", api, "nodes"],
    cwd: projectRoot,
    env: { GRU_STAT_API_KEY: "wrong" },
  }).output();
  assert.equal(wrong.code, 1);
  assert.match(new TextDecoder().decode(wrong.stderr), /^unauthenticated: /);
});
