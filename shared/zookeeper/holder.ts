/**
 * A process that tests freeze and kill. It holds a name and a lease in the registry at the given address, and writes a
 * line of JSON whenever it starts or stops to believe that its lease is valid.
 */
import { connect } from "./scene.ts";
import { someInstance } from "../registry/conformance.ts";

export interface Belief {
  readonly valid: boolean;
  readonly lost: boolean;
  /** When the lease was last valid, Unix milliseconds. */
  readonly lastValidAt: number;
}

if (import.meta.main) {
  const registry = await connect([Deno.args[0] ?? ""]);
  await registry.register(someInstance("spear1"));
  const lease = await registry.acquire("key", "holder");
  let lastValidAt = 0;
  let last = "";
  setInterval(() => {
    const valid = lease !== undefined && lease.validUntil() > performance.now();
    if (valid) lastValidAt = Date.now();
    const lost = lease?.lost.aborted ?? true;
    if (last === `${valid} ${lost}`) return;
    last = `${valid} ${lost}`;
    const belief: Belief = { valid, lost, lastValidAt };
    // deno-lint-ignore no-console
    console.log(JSON.stringify(belief));
  }, 1);
}
