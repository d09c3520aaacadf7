/** `deno task up` tells who starts it where everything is. */
import assert from "node:assert/strict";
import { freePort, slowTest, spawnTask, waitFor } from "@gru/shared/testing/harness";

slowTest(
  "deno task up says where everything is when it is up, whatever its log shows",
  async () => {
    const names = ["ticket", "spear1", "spear2", "stat", "statHttp", "idgen", "minions", "example"];
    const ports = new Map(names.map((name) => [name, freePort()]));
    const flags = [...ports].map(([name, port]) => `--ports.${name}=${port}`);
    await using up = spawnTask("up", flags);
    await waitFor(() => up.output.includes("Ctrl-C stops it."), {
      ...{ timeoutMs: 120_000, what: "the words of deno task up" },
    });
    for (const name of ["ticket", "spear1", "minions", "example"]) {
      assert.match(up.output, new RegExp(`^  ${name} +http://127.0.0.1:${ports.get(name)} `, "m"));
    }
  },
);
