/** A spear that is alone, and clients on it: for tests. */
import assert from "node:assert/strict";
import { loadConfig } from "@gru/shared/config";
import { freePort, spawnTask } from "@gru/shared/testing/harness";
import { spearSchema } from "./config.ts";
import { type Spear, type SpearOverrides, startSpear } from "./spear.ts";
import { type Dialect, dialects, TestClient } from "./test_client.ts";

const [first, second] = dialects;
if (first === undefined || second === undefined) throw new Error("no dialects");
export const modern: Dialect = first;
export const old: Dialect = second;

/** The dev profile in mode single on a free port, with these flags. */
export function singleSpear(
  flags: Readonly<Record<string, string | number>> = {},
  overrides: SpearOverrides = {},
  environment: Readonly<Record<string, string>> = {},
): Promise<Spear> {
  const config = loadConfig({
    program: "spear",
    schema: spearSchema,
    profiles: new URL("./profiles/", import.meta.url),
    args: Object.entries({ mode: "single", port: 0, drainMs: 0, ...flags })
      .map(([key, value]) => `--${key}=${value}`),
    environment: (name) => environment[name],
  });
  return startSpear(config, overrides);
}

export interface SpearProcess extends AsyncDisposable {
  readonly address: string;
  residentBytes(): Promise<number>;
  /** SIGTERM, and waits for the end. Disposing kills it. */
  stop(): Promise<void>;
}

/** The same in a process of its own, so that its memory is its own too. */
export async function spawnSpear(
  flags: Readonly<Record<string, string | number>> = {},
): Promise<SpearProcess> {
  const { port = freePort(), monitorPort = freePort() } = flags;
  const monitor = `http://127.0.0.1:${monitorPort}`;
  const all = { mode: "single", port, monitorPort, drainMs: 0, ...flags };
  const process = spawnTask(
    "spear",
    Object.entries(all).map(([key, value]) => `--${key}=${value}`),
  );
  await process.ready(async () => {
    const response = await fetch(`${monitor}/readyz`).catch(() => undefined);
    await response?.body?.cancel();
    return response?.ok ?? false;
  }, { what: "spear" });
  return {
    address: `http://127.0.0.1:${port}`,
    residentBytes: async () => {
      const text = await (await fetch(`${monitor}/metrics`)).text();
      return Number(/^process_resident_memory_bytes\S* (\S+)/m.exec(text)?.[1]);
    },
    stop: () => process.kill("SIGTERM"),
    [Symbol.asyncDispose]: () => process[Symbol.asyncDispose](),
  };
}

export async function authenticated(
  address: string,
  id: number | string = 1,
  dialect: Dialect = modern,
): Promise<TestClient> {
  const client = await TestClient.connect(address, dialect);
  const result = await client.request("auth", { id });
  assert.equal(result.success, true, JSON.stringify(result));
  return client;
}
