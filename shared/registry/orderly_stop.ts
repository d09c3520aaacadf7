/**
 * Distinguishes a program that stopped in order from one that died. Both have left the registry; the first one has
 * recorded its stop before it left. The stops of one service share one cell, so that names long gone leave nothing
 * behind.
 */
import { z } from "zod";
import { pause } from "../pause.ts";
import { type Cell, ConflictError, type Instance, type Registry } from "./registry.ts";

export type Life = Pick<Instance, "service" | "name" | "startedAt">;

/** How many stops of a service are kept: far more than can happen before the watchers have read them. */
const kept = 256;
/** Others may write at the same time. A stopping program does not try for longer than this. */
const limitMs = 1000;

/** The name and start time (Unix milliseconds) of each program that stopped, the newest stop first. */
const farewells = z.array(z.tuple([z.string(), z.number()]));

function cellOf(registry: Registry, { service }: Life): Cell {
  return registry.cell(`farewells/${service}`);
}

function parse(value: string | undefined): z.output<typeof farewells> {
  try {
    return farewells.parse(JSON.parse(value ?? "[]"));
  } catch {
    // An unreadable value is replaced, because it only recorded stops.
    return [];
  }
}

/**
 * Call it before the registration is removed. Does nothing while the registry cannot be reached: the stop must go on.
 */
export async function recordOrderlyStop(registry: Registry, life: Life): Promise<void> {
  const cell = cellOf(registry, life);
  const giveUpAt = performance.now() + limitMs;
  while (registry.state === "connected" && performance.now() < giveUpAt) {
    try {
      const last = await cell.read();
      const others = parse(last?.value).filter(([name]) => name !== life.name);
      const all = [[life.name, life.startedAt] as const, ...others];
      return void await cell.write(JSON.stringify(all.slice(0, kept)), last);
    } catch (error) {
      // After any other error the others will take this program for dead.
      if (!(error instanceof ConflictError)) return;
      await pause(20 * Math.random());
    }
  }
}

/** True when this instance, which has left the registry, stopped in order. */
export async function stoppedInOrder(registry: Registry, life: Life): Promise<boolean> {
  const last = await cellOf(registry, life).read();
  return parse(last?.value)
    .some(([name, startedAt]) => name === life.name && startedAt === life.startedAt);
}
