import { checkNode } from "@gru/shared/node";
import { runProgram } from "@gru/shared/program";
import { idgenSchema, startIdgen } from "./idgen.ts";

if (import.meta.main) {
  await runProgram({
    name: "idgen",
    schema: idgenSchema,
    profiles: new URL("./profiles/", import.meta.url),
    check: checkNode,
    start: (config, stop) => startIdgen(config, { stop }),
  });
}
