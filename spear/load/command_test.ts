import assert from "node:assert/strict";
import { slowTest, taskArguments } from "@gru/shared/testing/harness";
import { singleSpear } from "../spear_testing.ts";
import { readFlags } from "./flags.ts";
import { fileURLToPath } from "node:url";

for (
  const [args, flag, value] of [
    ["--clients=x", "--clients", "x"],
    ["--clients=1.5", "--clients", "1.5"],
    ["--clients=0", "--clients", "0"],
    ["--rate=-1", "--rate", "-1"],
    ["--content=13", "--content", "13"],
    ["--seconds=", "--seconds", "none"],
    ["--protocol=5", "--protocol", "5"],
    ["--scenario=flood", "--scenario", "flood"],
    ["--target=127.0.0.1:31001", "--target", "127.0.0.1:31001"],
    ["--target=http://a:1,b", "--target", "http://a:1,b"],
    ["--ticket=https://a", "--ticket", "https://a"],
    ["--sources=127.0.0.1,x", "--sources", "127.0.0.1,x"],
    ["--pid=1,x", "--pid", "1,x"],
    ["--core=a", "--core", "a"],
    ["--track", "--ticket", "none"],
    ["--track --ticket=http://a:1 --scenario=idle", "--scenario", "idle"],
    ["--scenario=recovery --workers=3 --groups=2", "--workers", "3"],
    ["--scenario=recovery --protocol=centrifugo", "--protocol", "centrifugo"],
    ["--senders=0", "--senders", "0"],
  ] as const
) {
  Deno.test(`the load refuses ${args}, and says what it expects of ${flag}`, () => {
    assert.throws(() => readFlags(args.split(" ")), (error: Error) => {
      assert.ok(error.message.startsWith(`${flag}: expected `), error.message);
      assert.ok(error.message.endsWith(`got ${value}`), error.message);
      return true;
    });
  });
}

Deno.test("a scenario has defaults of its own, which a flag overrides", () => {
  assert.equal(readFlags([]).number("senders"), 4);
  const idle = readFlags(["--scenario=idle", "--warmup=3"]);
  assert.deepEqual([idle.number("senders"), idle.number("warmup")], [0, 3]);
  assert.deepEqual([idle.options["seconds"], idle.options["core"]], [60, undefined]);
});

slowTest(
  "with --json standard output is one document, and progress is on standard error",
  async () => {
    await using spear = await singleSpear();
    const [, ...permissions] = taskArguments("load").slice(0, -1);
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", ...permissions, fileURLToPath(new URL("command.ts", import.meta.url))],
        ...[`--target=${spear.address}`, "--scenario=idle", "--clients=20", "--groups=2"],
        ...["--warmup=0", "--seconds=2", `--pid=${Deno.pid}`, "--json"],
      ],
    }).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    assert.ok(success, text(stderr));
    const { options, machine, connecting, result } = JSON.parse(text(stdout));
    assert.equal(options.clients, 20);
    assert.equal(machine.deno, Deno.version.deno);
    assert.ok(connecting.p50Ms > 0 && connecting.p999Ms <= connecting.maxMs);
    assert.equal(result.lost, 0);
    if (Deno.build.os === "linux") assert.ok(result.serverMB > 0);
    assert.match(text(stderr), /connected 20 {2}sent 0 {2}delivered 0 {2}p99 -/);
  },
);
