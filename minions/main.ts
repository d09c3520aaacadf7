import { checkNode } from "@gru/shared/node";
import { runProgram } from "@gru/shared/program";
import { minionsSchema, startMinions } from "./minions.ts";

if (import.meta.main) {
  await runProgram({
    name: "minions",
    schema: minionsSchema,
    profiles: new URL("./profiles/", import.meta.url),
    check: checkNode,
    start: (config, stop) => startMinions(config, { stop }),
  });
}
