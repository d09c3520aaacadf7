/** A program whose port is taken says so in one line, and ends with 2: nothing in it is wrong. */
import assert from "node:assert/strict";
import { projectRoot, taskArguments, taskEnvironment } from "@gru/shared/testing/harness";

for (const program of ["ticket", "spear", "stat", "idgen", "minions"]) {
  Deno.test(`${program} says in one line that its port is in use`, async () => {
    using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = taken.addr as Deno.NetAddr;
    const flags = ["--profile", "dev", "--registry", "memory:", "--port", `${port}`];
    if (program === "stat") flags.push("--redis", "memory:");
    if (program === "spear") flags.push("--mode", "single");
    const { code, stderr, stdout } = await new Deno.Command("deno", {
      args: [...taskArguments(program), ...flags],
      env: taskEnvironment(program),
      cwd: projectRoot,
      stdout: "piped",
      stderr: "piped",
    }).output();
    const lines = new TextDecoder().decode(stderr).split("\n")
      .filter((line) => line !== "" && !/Download|Check/.test(line));
    assert.deepEqual(lines, [`Cannot listen on 127.0.0.1:${port}: the port is in use`]);
    assert.equal(code, 2);
    assert.doesNotMatch(new TextDecoder().decode(stdout), /^\s+at /m);
  });
}
