/** A whole cluster in this process, on free ports: for tests. */
import { loadConfig } from "@gru/shared/config";
import type { Registry } from "@gru/shared/registry/registry";
import { type Idgen, idgenSchema, startIdgen } from "../../idgen/idgen.ts";
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

/** An idgen in this process, on a free port: without one no spear serves. */
export function idgenIn(registry: Registry): Promise<Idgen> {
  const config = loadConfig({
    program: "idgen",
    schema: idgenSchema,
    profiles: new URL("../../idgen/profiles/", import.meta.url),
    args: ["--registry=memory:", "--port=0"],
    environment: () => undefined,
  });
  return startIdgen(config, { registry });
}
