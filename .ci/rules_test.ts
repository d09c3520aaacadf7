import assert from "node:assert/strict";
import { violations } from "./rules.ts";

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
    ["another program's insides by name", "stat/a.ts", `import { x } from "@gru/spear/hub";`],
    ["another program's insides by path", "stat/a.ts", `import { x } from "../spear/hub.ts";`],
    [
      "several lines of another's insides",
      "stat/a.ts",
      `import {\n  x,\n} from "../spear/hub.ts";`,
    ],
    ["insides that are only awaited", "stat/a.ts", `await import("../spear/hub.ts");`],
    ["a program from shared", "shared/a.ts", `import { x } from "@gru/stat/contract";`],
    ["a package that deno.json does not name", "stat/a.ts", `import x from "npm:left-pad@1";`],
    ["a jsr package", "stat/a.ts", `import x from "jsr:@std/assert";`],
    ["socket.io beside the gateway", "spear/hub.ts", `import { Server } from "socket.io";`],
    ["a re-export of another's insides", "stat/a.ts", `export { x } from "../spear/hub.ts";`],
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
