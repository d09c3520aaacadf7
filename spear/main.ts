import { runProgram } from "@gru/shared/program";
import { spearSchema } from "./config.ts";
import { startSpear } from "./spear.ts";

if (import.meta.main) {
  await runProgram({
    name: "spear",
    schema: spearSchema,
    profiles: new URL("./profiles/", import.meta.url),
    start: (config) => startSpear(config),
  });
}
