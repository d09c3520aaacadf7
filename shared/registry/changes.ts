/** Which programs came, went, or changed how they are, as the registry shows it. */
import { stoppedInOrder } from "./orderly_stop.ts";
import type { Instance, Registry } from "./registry.ts";

export interface Change {
  /** `left`: stopped in order. `died`: did not stop in order, or is cut off from the registry. */
  readonly kind: "joined" | "draining" | "undrained" | "left" | "died";
  /** As it was last seen. */
  readonly instance: Instance;
}

/** Tells each change from one view of a service to the next. Nothing has just joined in its first view. */
export class Changes {
  readonly #registry: Registry;
  readonly #onChange: (change: Change) => void;
  readonly #before = new Map<string, readonly Instance[]>();

  constructor(registry: Registry, onChange: (change: Change) => void) {
    this.#registry = registry;
    this.#onChange = onChange;
  }

  see(service: string, instances: readonly Instance[]): void {
    const before = this.#before.get(service);
    this.#before.set(service, instances);
    if (before === undefined) return;
    const known = new Map(before.map((one) => [one.name, one]));
    for (const instance of instances) {
      const old = known.get(instance.name);
      known.delete(instance.name);
      const [wasDraining, isDraining] = [
        old?.meta.draining === true,
        instance.meta.draining === true,
      ];
      if (old?.startedAt !== instance.startedAt) this.#onChange({ kind: "joined", instance });
      else if (isDraining !== wasDraining) {
        this.#onChange({ kind: isDraining ? "draining" : "undrained", instance });
      }
    }
    for (const instance of known.values()) {
      void stoppedInOrder(this.#registry, instance).catch(() => false)
        .then((inOrder) => this.#onChange({ kind: inOrder ? "left" : "died", instance }));
    }
  }
}
