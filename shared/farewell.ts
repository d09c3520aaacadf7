/**
 * Tells a program that stopped in order from one that died. Both are simply gone from the registry; the first one has left
 * word before it went.
 */
import type { Cell, Instance, Registry } from "./registry.ts";

export type Life = Pick<Instance, "service" | "name" | "startedAt">;

function cellOf(registry: Registry, { service, name }: Life): Cell {
  return registry.cell(`farewells/${service}/${name}`);
}

/** To be said before the registration is taken back. Nothing when the registry is out of reach: stopping goes on. */
export async function sayFarewell(registry: Registry, life: Life): Promise<void> {
  if (registry.state !== "connected") return;
  const cell = cellOf(registry, life);
  try {
    const last = await cell.read();
    await cell.write(`${life.startedAt}`, last?.version);
  } catch {
    // Then it will be taken for dead.
  }
}

/** Whether this one, which is gone, stopped in order. */
export async function saidFarewell(registry: Registry, life: Life): Promise<boolean> {
  const last = await cellOf(registry, life).read();
  return last?.value === `${life.startedAt}`;
}
