import { runProgram } from "@gru/shared/program";
import { minionsConfig } from "./config.ts";
import { startMinions } from "./minions.ts";

await runProgram({
  name: "minions",
  schema: minionsConfig,
  profiles: new URL("./profiles/", import.meta.url),
  start: startMinions,
});
