/** What is made from the schemas of the profiles is as the schemas are now, and does what editors and readers need. */
import assert from "node:assert/strict";
import { readProfile } from "../config/profile.ts";
import { leavesOf } from "../config/keys.ts";
import { outdated, pageFiles, schemaFiles } from "./docs.ts";
import { programs } from "./programs.ts";

Deno.test("the page of all keys and the JSON Schemas are what the schemas say now", () => {
  assert.deepEqual(outdated(), []);
});

Deno.test("the page names every key and secret of every program, in lines of at most 120 characters", () => {
  const [page = ""] = pageFiles().values();
  for (const { schema } of programs) {
    for (const { key, secret, profileName, formerly } of leavesOf(schema)) {
      if (profileName) continue;
      for (const name of [secret ?? key, ...formerly]) {
        assert.ok(page.includes(`\`${name}\``), name);
      }
    }
  }
  for (const line of page.split("\n")) assert.ok(line.length <= 120, line);
});

interface JsonSchema {
  readonly properties: Readonly<Record<string, JsonSchema>>;
  readonly deprecated?: boolean;
  readonly additionalProperties?: boolean;
}

/** `limits.authMs`, … of all keys that have no keys inside */
function keysIn({ properties }: JsonSchema, prefix = ""): string[] {
  return Object.entries(properties).flatMap(([name, inner]) =>
    inner.properties === undefined ? [`${prefix}${name}`] : keysIn(inner, `${prefix}${name}.`)
  );
}

for (const { name, schema, profiles } of programs) {
  Deno.test(`the JSON Schema of ${name} knows the keys of its profiles and their former names, and no secret`, () => {
    const [, text = ""] = [...schemaFiles()].find(([path]) =>
      path === `${name === "up" ? "shared/up" : name}/profile.schema.json`
    ) ?? [];
    const known = keysIn(JSON.parse(text));
    const leaves = leavesOf(schema);
    const expected = leaves.filter((leaf) =>
      leaf.secret === undefined && !leaf.profileName
    )
      .flatMap((leaf) => [leaf.key, ...leaf.formerly]);
    assert.deepEqual(known.sort(), ["$schema", ...expected].sort());
    assert.ok(!/environmentVariable|whenMissing|unknownKeys|"GRU_/.test(text));
    const { values } = readProfile({ program: name, profiles }, "dev");
    assert.equal(values.$schema, "../profile.schema.json");
    assert.ok(Deno.statSync(new URL(String(values.$schema), profiles)).isFile);
  });
}
