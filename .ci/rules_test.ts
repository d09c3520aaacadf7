import assert from "node:assert/strict";
import { unnamedPackages, violations } from "./rules.ts";

function check(files: Record<string, string>): string[] {
  return violations(new Map(Object.entries(files)));
}

Deno.test("the rules let a program import a contract, shared and its own files", () => {
  assert.deepEqual(
    check({
      "spear/a.ts": `
        import { x } from "@gru/stat/contract";
        import { y } from "@gru/shared/rpc/client";
        import type { t } from "@gru/ticket/token";
        import z from "./b.ts";`,
      "shared/up/up.ts": `import { s } from "../../spear/a.ts";`,
    }),
    [],
  );
});

for (
  const [what, path, text] of [
    ["another program's insides by name", "stat/a.ts", `import { x } from "@gru/spear/hub/hub";`],
    ["another program's insides by path", "stat/a.ts", `import { x } from "../spear/hub/hub.ts";`],
    [
      "several lines of another's insides",
      "stat/a.ts",
      `import {\n  x,\n} from "../spear/hub/hub.ts";`,
    ],
    ["insides that are only awaited", "stat/a.ts", `await import("../spear/hub/hub.ts");`],
    ["a program from shared", "shared/a.ts", `import { x } from "@gru/stat/contract";`],
    ["a package that deno.json does not name", "stat/a.ts", `import x from "npm:left-pad@1";`],
    ["such a package in a test", "stat/a_test.ts", `import x from "npm:left-pad@1";`],
    ["a jsr package", "stat/a.ts", `import x from "jsr:@std/assert";`],
    ["socket.io outside its room", "spear/hub/hub.ts", `import { Server } from "socket.io";`],
    ["Engine.IO in another room", "spear/session/a.ts", `import type { S } from "engine.io";`],
    ["a way past a room's door", "spear/session/a.ts", `import { J } from "../hub/joining.ts";`],
    ["the same for a type", "spear/session/a.ts", `import type { J } from "../hub/joining.ts";`],
    ["a re-export of another's insides", "stat/a.ts", `export { x } from "../spear/hub/hub.ts";`],
  ] as const
) {
  Deno.test(`the rules find ${what}`, () => {
    assert.equal(check({ [path]: text }).length, 1);
  });
}

Deno.test("the rules find a circle of imports, also over a contract", () => {
  const [line] = check({
    "stat/contract.ts": `import { b } from "./b.ts";`,
    "stat/b.ts": `import { c } from "@gru/idgen/contract";`,
    "idgen/contract.ts": `import { s } from "@gru/stat/contract";`,
  });
  assert.match(line ?? "", /circle: stat\/contract.ts → stat\/b.ts → idgen\/contract.ts → stat/);
});

Deno.test("the rules let tests and the top of a program see every room", () => {
  assert.deepEqual(
    check({
      "spear/spear.ts": `import { J } from "./hub/joining.ts";`,
      "spear/session/a_test.ts": `import { J } from "../hub/joining.ts"; import ws from "ws";`,
      "spear/session/a.ts": `import { H } from "../hub/hub.ts";`,
    }),
    [],
  );
});

Deno.test("the rules find a circle of rooms whose files make none, also of types", () => {
  const [line] = check({
    "spear/session/session.ts": `import { H } from "../hub/hub.ts";`,
    "spear/hub/listeners.ts": `import type { S } from "../session/session.ts";`,
  });
  assert.match(line ?? "", /circle: spear\/session → spear\/hub → spear\/session/);
});

Deno.test("the rules find a package for tests that a program loads by way of other files", () => {
  const files = {
    "stat/main.ts": `import { s } from "./stat.ts";`,
    "stat/stat.ts": `import { h } from "./histories.ts";`,
    "stat/histories.ts": `import { a } from "fast-check";`,
  };
  assert.deepEqual(check(files), ["stat/histories.ts: imports fast-check: only tests may"]);
  assert.deepEqual(check({ ...files, "stat/stat.ts": "" }), []);
});

Deno.test("the rules find a package in deno.lock that deno.json does not name", () => {
  const config = JSON.stringify({ imports: { zod: "npm:zod@4.6.7", "b/": "npm:/@a/b@1.0.0/" } });
  const lock = (...specifiers: string[]) =>
    JSON.stringify({ specifiers: Object.fromEntries(specifiers.map((name) => [name, ""])) });
  assert.deepEqual(
    unnamedPackages(lock("npm:zod@4.6.7", "npm:@a/b@1.0.0", "npm:@types/zod@1.0.0"), config),
    [],
  );
  const [line, ...rest] = unnamedPackages(lock("npm:zod@4.6.7", "npm:workerd@1.0.0"), config);
  assert.match(line ?? "", /^deno.lock: npm:workerd@1.0.0: /);
  assert.deepEqual(rest, []);
});
