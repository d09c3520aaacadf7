import { runProgram } from "@gru/shared/program";
import { spearConfig } from "./config.ts";
import { startSpear } from "./spear.ts";

await runProgram({
  name: "spear",
  schema: spearConfig,
  profiles: new URL("./profiles/", import.meta.url),
  start: startSpear,
});
