/** The programs' tasks ask for what they need and no more. */
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";
import { freePort, projectRoot, ServerProcess, taskArguments } from "@gru/shared/testing/harness";

const programs = ["ticket", "spear", "stat", "idgen", "minions"] as const;

for (const program of programs) {
  Deno.test(`the task ${program} names its permissions: its own files, Gru's environment, no writing, programs or foreign functions`, () => {
    const words = taskArguments(program).filter((word) => word.startsWith("-"));
    for (const word of words) {
      assert.doesNotMatch(word, /^(-A|--allow-(all|write|run|import|ffi))\b/);
      if (word.startsWith("--allow-read")) {
        for (const path of word.replace(/^--allow-read=?/, "").split(",")) {
          assert.match(path, new RegExp(`^${program}/(profiles|ui)$`));
        }
      }
      if (word.startsWith("--allow-sys")) assert.match(word, /^--allow-sys=/);
      if (word.startsWith("--allow-env")) {
        for (const name of word.replace("--allow-env=", "").split(",")) {
          assert.match(name, /^(GRU_\w+\*?|NOTIFY_SOCKET|WATCHDOG_USEC|RUNTIME_DIRECTORY)$/);
        }
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

Deno.test("the permissions of a spear suffice to load the engines of every mode, and open no other file", async () => {
  const permissions = taskArguments("spear").filter((word) => /^--(allow|ignore)-/.test(word));
  const engine = (file: string) => pathToFileURL(`${projectRoot}/spear/${file}`);
  const script = `
    import { RocketmqBroker } from "${engine("rocketmq/broker.ts")}";
    import { RedisBroker } from "${engine("redis/broker.ts")}";
    const state = async (descriptor) => (await Deno.permissions.query(descriptor)).state;
    console.log(JSON.stringify([
      typeof RocketmqBroker,
      typeof RedisBroker,
      await state({ name: "read", path: "spear/profiles/dev.json" }),
      await state({ name: "read", path: "deno.json" }),
      await state({ name: "ffi" }),
    ]));
  `;
  const path = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    await Deno.writeTextFile(path, script);
    const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--quiet",
        "--no-prompt",
        "--no-check",
        "--config=deno.json",
        ...permissions,
        path,
      ],
      cwd: projectRoot,
      env: { NO_COLOR: "1" },
    }).output();
    const output = new TextDecoder().decode(stdout);
    assert.deepEqual(
      JSON.parse(output || "null"),
      ["function", "function", "granted", "prompt", "prompt"],
      new TextDecoder().decode(stderr),
    );
  } finally {
    await Deno.remove(path);
  }
});
