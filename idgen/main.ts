import { runProgram } from "@gru/shared/program";
import { idgenSchema, startIdgen } from "./idgen.ts";

if (import.meta.main) {
  await runProgram({
    name: "idgen",
    schema: idgenSchema,
    profiles: new URL("./profiles/", import.meta.url),
    start: (config) => startIdgen(config),
  });
}
