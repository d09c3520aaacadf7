/** A whole cluster in this process, on free ports: for tests. */
import { startUp, type Up } from "./up.ts";

/** @param environment default: this process's */
export function upOnFreePorts(
  environment?: (name: string) => string | undefined,
): Promise<Up> {
  const ports = {
    ...{ ticket: 0, spear1: 0, spear2: 0, stat: 0, statHttp: 0 },
    ...{ idgen: 0, minions: 0, example: 0 },
  };
  return startUp(
    { host: "127.0.0.1", ports, log: { level: "error", format: "text" } },
    environment,
  );
}
