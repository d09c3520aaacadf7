/** The programs' tasks ask for what they need and no more. */
import assert from "node:assert/strict";
import { freePort, projectRoot, ServerProcess, taskArguments } from "@gru/shared/testing";

const programs = ["ticket", "spear", "stat", "idgen", "minions"] as const;

for (const program of programs) {
  Deno.test(`the task ${program} names its permissions: no writing, no programs, no environment but Gru's`, () => {
    const words = taskArguments(program).filter((word) => word.startsWith("-"));
    for (const word of words) {
      assert.doesNotMatch(word, /^(-A|--allow-(all|write|run|import))\b/);
      if (word.startsWith("--allow-env")) {
        for (const name of word.replace("--allow-env=", "").split(",")) assert.match(name, /^GRU_/);
      }
    }
    assert.ok(words.includes("--ignore-env"));
  });
}

async function answers(port: number): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/healthz`);
    return (await response.text()) === "ok\n";
  } catch {
    return false;
  }
}

for (
  const [program, what, dropped, flags] of [
    ["ticket", "the environment", /^--allow-env/, ["--registry=memory:"]],
    ["spear", "foreign functions", /^--allow-ffi/, ["--mode=single"]],
    ["spear", "looking at the machine", /^--allow-sys/, ["--mode=single"]],
    ["spear", "the environment", /^--allow-env/, ["--mode=single"]],
    ["stat", "the environment", /^--allow-env/, ["--registry=memory:", "--redis=memory:"]],
    ["idgen", "the environment", /^--allow-env/, ["--registry=memory:"]],
    ["minions", "the environment", /^--allow-env/, ["--registry=memory:"]],
  ] as const
) {
  Deno.test(`${program} still runs without the permission for ${what}, where it does not need it`, async () => {
    const words = taskArguments(program);
    const kept = words.filter((word) => !dropped.test(word));
    assert.equal(kept.length, words.length - 1);
    const port = freePort();
    const monitorPort = program === "spear" ? freePort() : port;
    const [run = "run", ...others] = kept;
    await using process = new ServerProcess(Deno.execPath(), {
      args: [
        ...[run, "--no-prompt", ...others, "--profile", "dev", `--port=${port}`, ...flags],
        ...(program === "spear" ? [`--monitorPort=${monitorPort}`] : []),
        ...(program === "stat" ? [`--httpPort=${freePort()}`] : []),
      ],
      cwd: projectRoot,
    });
    await process.ready(() => answers(monitorPort), { what: `${program} without ${what}` });
  });
}
