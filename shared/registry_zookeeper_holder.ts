/**
 * A process for tests to freeze and kill: holds a name and a lease of the registry at the address given, and writes a
 * line of JSON whenever it starts or stops to believe that its lease is valid.
 */
import { connect } from "./registry_zookeeper_scene.ts";
import { someInstance } from "./registry_conformance.ts";

export interface Belief {
  readonly valid: boolean;
  readonly lost: boolean;
  /** Unix milliseconds when it was last valid. */
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
