/** What the tasks of the programs answer to whoever starts them: checks, the configuration in force, and the first line. */
import assert from "node:assert/strict";
import { join } from "node:path";
import {
  ask,
  freePort,
  projectRoot,
  serverTest,
  spawnTask,
  waitFor,
} from "@gru/shared/testing/harness";
import { startRedis } from "@gru/shared/testing/redis";
import { startZookeeper } from "@gru/shared/testing/zookeeper";
import { spawnProgram } from "./processes.ts";

/** `deno task`, with the shell that it brings. Lines without those of Deno itself. */
async function task(args: readonly string[], environment: Readonly<Record<string, string>> = {}) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", ...args],
    cwd: projectRoot,
    env: { NO_COLOR: "1", ...environment },
    stdin: "null",
  }).output();
  const [output = [], errors = []] = [stdout, stderr].map((bytes) =>
    new TextDecoder().decode(bytes).split("\n")
      .filter((line) => line !== "" && !/^(Download|Check|Task) /.test(line))
  );
  return { code, output, errors };
}

/** A folder of its own with this file in it. */
async function fileOf(text: string) {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "own.json");
  await Deno.writeTextFile(path, text);
  return {
    path,
    [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }),
  };
}

for (const program of ["ticket", "spear", "stat", "idgen", "minions"]) {
  Deno.test(`deno task ${program}:production --check says in one line each what is missing, and ends with 2`, async () => {
    const { code, output, errors } = await task([`${program}:production`, "--check"]);
    assert.equal(code, 2);
    assert.deepEqual(output, []);
    assert.ok(errors.length >= 3, errors.join("\n"));
    for (const line of errors) assert.match(line, new RegExp(`^${program}, profile production: `));
  });
}

Deno.test("a task checks a profile anywhere, with the permission to read it, and ends with 0", async () => {
  await using file = await fileOf(`\ufeff{
    // The third node.
    "id": 3, "gatherMs": 5, "auth": { "scheme": "open", },
  }`);
  const args = ["spear", "--profile", file.path];
  const permission = { GRU_PERMISSIONS: `--allow-read=${file.path}` };
  assert.deepEqual(await task([...args, "--check"], permission), {
    code: 0,
    output: [`spear, profile ${file.path}: no error`],
    errors: [`spear, profile ${file.path}: the key gatherMs is now called batchDelayMs`],
  });
  const printed = await task([...args, "--print-config"], {
    ...permission,
    GRU_REDIS_PASSWORD: "m4rked password",
  });
  assert.equal(printed.code, 0);
  const { id, batchDelayMs, redisPassword } = JSON.parse(printed.output.join("\n"));
  assert.deepEqual({ id, batchDelayMs, redisPassword }, {
    id: 3,
    batchDelayMs: 5,
    redisPassword: "***",
  });
  assert.deepEqual(await task([...args, "--check"]), {
    code: 2,
    output: [],
    errors: [
      `spear, profile ${file.path}: may not be read; ` +
      `set the environment variable GRU_PERMISSIONS=--allow-read=${file.path}`,
    ],
  });
});

Deno.test("--check reads the files that keys name and the keys of tokens, too", async () => {
  const files = await task(["idgen", "--check", "--rpc.certFile=no.pem", "--rpc.keyFile=no.pem"]);
  assert.equal(files.code, 2);
  assert.deepEqual(files.errors, [
    "rpc.certFile: no.pem may not be read; " +
    "set the environment variable GRU_PERMISSIONS=--allow-read=no.pem",
  ]);
  const pem = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----";
  const key = await task(["ticket", "--check", "--auth.scheme=jwt"], {
    GRU_TOKEN1_PUBLIC_KEY: pem,
    GRU_TOKEN2_SECRET: "a secret of more than 32 characters",
  });
  assert.equal(key.code, 2);
  assert.equal(key.errors.length, 1);
  assert.match(key.errors[0] ?? "", /^ticket: auth\.token1\.publicKey: .*GRU_TOKEN1_PUBLIC_KEY$/);
});

for (
  const [program, flags, facts] of [
    [
      "spear",
      { mode: "single", port: 0, advertise: "http://spear7.example:80", id: 7 },
      /"spear7" starts: listens on "127\.0\.0\.1:0 and 127\.0\.0\.1:0", advertises "http:\/\/spear7\.example:80", mode "single", registry "memory:", scheme "open", version "\d+\.\d+\.\d+", Deno "\d+\.\d+\.\d+"$/,
    ],
    [
      "stat",
      { registry: "memory:", redis: "memory:", httpPort: 0 },
      /"stat1" starts: listens on "127\.0\.0\.1:\d+ and 127\.0\.0\.1:0", registry "memory:", redis "memory:", version /,
    ],
    [
      "ticket",
      { registry: "memory:" },
      /"ticket1" starts: listens on "127\.0\.0\.1:\d+", registry "memory:", scheme "open", version /,
    ],
  ] as const
) {
  Deno.test(`the first line of ${program} says what starts, where, and with what`, async () => {
    const args = Object.entries({ port: freePort(), ...flags }).map(([k, v]) => `--${k}=${v}`);
    await using process = spawnTask(program, ["--profile", "dev", ...args], { NO_COLOR: "1" });
    await waitFor(() => process.output.includes(" is up"), { what: `${program} is up` });
    const [first = ""] = process.output.split("\n").filter((line) =>
      !/^(Download|Check)/.test(line)
    );
    assert.match(first, facts);
  });
}

serverTest({
  name: "a start that the servers' credentials end is one line with the reason, and exits with 2",
  needs: ["zookeeper", "redis"],
  fn: async () => {
    await using zookeeper = await startZookeeper();
    await using redis = await startRedis();
    await ask(redis.port, "CONFIG SET requirepass right-word\r\n");
    const flags = { port: freePort(), registry: `zookeeper://${zookeeper.address}/gru` };
    const digest = { ...flags, "zookeeper.acl": "digest" };
    await using owner = spawnProgram("ticket", "test1", digest, {
      GRU_ZOOKEEPER_CREDENTIALS: "gru:right-word",
    });
    await waitFor(() => owner.output.includes(" is up"), { what: "the first ticket" });

    const starts = [
      ["ticket", { ...digest, port: freePort(), id: 2 }, {
        GRU_ZOOKEEPER_CREDENTIALS: "gru:wrong-word",
      }, /NO_AUTH.*GRU_ZOOKEEPER_CREDENTIALS/],
      ["stat", { ...flags, port: 0, httpPort: 0, registry: "memory:", redis: redis.url }, {
        GRU_REDIS_PASSWORD: "wrong-word",
      }, /WRONGPASS/],
    ] as const;
    for (const [program, flags, environment, reason] of starts) {
      await using process = spawnProgram(program, "test1", flags, {
        ...environment,
        NO_COLOR: "1",
      });
      const { code } = await process.ended;
      await waitFor(() => process.output.includes(" failed: "), { what: "the reason" });
      const fatal = process.output.split("\n").filter((line) => line.includes("[FTL]"));
      assert.equal(fatal.length, 1, process.output);
      assert.match(fatal[0] ?? "", reason);
      assert.doesNotMatch(process.output, /^\s+at /m);
      assert.equal(code, 2, process.output);
    }
  },
});
