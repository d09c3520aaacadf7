import assert from "node:assert/strict";
import { ConfigError } from "@gru/shared/config";
import { hooksSchema } from "./config.ts";
import { endpointSecrets } from "./secrets.ts";

const [all, own] = ["for all", "of its own"].map((text) =>
  `whsec_${btoa(text.padEnd(24, "."))}`
) as [string, string];
const url = "https://shop.example/hooks";

function hooks(endpoints: readonly object[], secret?: string) {
  return hooksSchema.parse({ endpoints, ...(secret === undefined ? {} : { secret }) });
}

Deno.test("an endpoint has the secret of the variable that it names, the others that of all", () => {
  const config = hooks([
    { name: "shop", url },
    { name: "crm", url, secretVariable: "GRU_HOOKS_SECRET_CRM" },
  ], all);
  const secrets = endpointSecrets(config, (name) => name === "GRU_HOOKS_SECRET_CRM" ? own : "");
  assert.deepEqual([...secrets], [["shop", all], ["crm", own]]);
  assert.equal(
    hooks([{ name: "crm", url, secretVariable: "GRU_HOOKS_SECRET_A" }]).secret,
    undefined,
  );
});

Deno.test("a variable that is missing or holds no secret is named, and what it holds is not", () => {
  const names = ["A", "B", "C"].map((name) => `GRU_HOOKS_SECRET_${name}`);
  const config = hooks(
    names.map((secretVariable) => ({ name: secretVariable.at(-1), url, secretVariable })),
  );
  const values: Record<string, string> = {
    GRU_HOOKS_SECRET_B: "hunter2",
    GRU_HOOKS_SECRET_C: `whsec_${btoa("short")}`,
  };
  assert.throws(() => endpointSecrets(config, (name) => values[name]), (error) => {
    assert.ok(error instanceof ConfigError);
    assert.deepEqual(error.message.split("\n"), [
      "stat: hooks.endpoints, A: the environment variable GRU_HOOKS_SECRET_A: is not set",
      "stat: hooks.endpoints, B: the environment variable GRU_HOOKS_SECRET_B: secret 1: expected whsec_ and base64",
      "stat: hooks.endpoints, C: the environment variable GRU_HOOKS_SECRET_C: secret 1: expected 24 to 64 bytes after whsec_, got 5",
    ]);
    return true;
  });
  for (const secretVariable of ["GRU_STAT_API_KEY", "PATH", "GRU_HOOKS_SECRET_"]) {
    const { error } = hooksSchema.safeParse({ endpoints: [{ name: "x", url, secretVariable }] });
    assert.match(error?.message ?? "", /expected GRU_HOOKS_SECRET_/);
  }
});
