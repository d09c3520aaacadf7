import { runProgram } from "@gru/shared/program";
import { checkNode } from "@gru/shared/node";
import { monitorPortOf, spearSchema } from "./config.ts";
import { startSpear } from "./spear.ts";

if (import.meta.main) {
  await runProgram({
    name: "spear",
    schema: spearSchema,
    profiles: new URL("./profiles/", import.meta.url),
    check: checkNode,
    ports: (config) => [config.port, monitorPortOf(config)],
    start: (config, stop) => startSpear(config, { stop }),
  });
}
