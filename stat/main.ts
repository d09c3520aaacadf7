import { checkNode } from "@gru/shared/node";
import { runProgram } from "@gru/shared/program";
import { endpointSecrets } from "./hooks/secrets.ts";
import { startStat, statSchema } from "./stat.ts";

if (import.meta.main) {
  await runProgram({
    name: "stat",
    schema: statSchema,
    profiles: new URL("./profiles/", import.meta.url),
    check: (config) => {
      checkNode(config);
      endpointSecrets(config.hooks);
    },
    start: (config, stop) => startStat(config, { stop }),
  });
}
