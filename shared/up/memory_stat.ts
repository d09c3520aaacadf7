/** A stat that keeps its state in memory, on free ports: for tests of what spears tell it. */
import { loadConfig } from "@gru/shared/config";
import type { Registry } from "@gru/shared/registry/registry";
import { startStat, type Stat, statSchema } from "../../stat/stat.ts";

export function startMemoryStat(registry: Registry): Promise<Stat> {
  const config = loadConfig({
    program: "stat",
    schema: statSchema,
    profiles: new URL("../../stat/profiles/", import.meta.url),
    args: ["--registry=memory:", "--redis=memory:", "--port=0", "--httpPort=0"],
    environment: () => undefined,
  });
  return startStat(config, { registry });
}
