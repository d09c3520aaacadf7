import { checkNode } from "@gru/shared/node";
import { runProgram } from "@gru/shared/program";
import { startStat, statSchema } from "./stat.ts";

if (import.meta.main) {
  await runProgram({
    name: "stat",
    schema: statSchema,
    profiles: new URL("./profiles/", import.meta.url),
    check: checkNode,
    start: (config, stop) => startStat(config, { stop }),
  });
}
