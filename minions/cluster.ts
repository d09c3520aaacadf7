/** The cluster as the registry shows it: which instances of the programs are alive, and who came and went. */
import { saidFarewell } from "@gru/shared/farewell";
import type { Instance, Registry } from "@gru/shared/registry";

export interface ClusterView {
  /** The registry is out of reach: this is what was last known. */
  readonly stale: boolean;
  /** By service, then by name. */
  readonly instances: readonly Instance[];
}

export interface ClusterEvent {
  /** Unix milliseconds. */
  readonly at: number;
  /** `left`: it stopped in order. `died`: it did not. */
  readonly kind: "joined" | "draining" | "left" | "died";
  readonly service: string;
  readonly name: string;
}

export interface Cluster extends Disposable {
  readonly view: ClusterView;
  /** The newest first, as many as are kept. */
  readonly events: readonly ClusterEvent[];
}

const eventsKept = 200;

/** Follows the services in the registry. */
export async function watchCluster(
  registry: Registry,
  services: readonly string[],
): Promise<Cluster> {
  const views = new Map<string, ClusterView>();
  const events: ClusterEvent[] = [];
  using stack = new DisposableStack();

  function tell(kind: ClusterEvent["kind"], { service, name }: Instance): void {
    events.unshift({ at: Date.now(), kind, service, name });
    events.length = Math.min(events.length, eventsKept);
  }

  function show(service: string, view: ClusterView): void {
    const before = views.get(service);
    views.set(service, view);
    // What is there at the start has not joined just now.
    if (before === undefined) return;
    const known = new Map(before.instances.map((one) => [one.name, one]));
    for (const instance of view.instances) {
      const old = known.get(instance.name);
      known.delete(instance.name);
      if (old?.startedAt !== instance.startedAt) tell("joined", instance);
      else if (instance.meta.draining === true && old.meta.draining !== true) {
        tell("draining", instance);
      }
    }
    for (const gone of known.values()) {
      void saidFarewell(registry, gone).catch(() => false)
        .then((inOrder) => tell(inOrder ? "left" : "died", gone));
    }
  }

  for (const service of services) {
    stack.use(await registry.watch(service, (view) => show(service, view)));
  }
  const watching = stack.move();
  return {
    events,
    get view() {
      const all = services.flatMap((service) => views.get(service) ?? []);
      return {
        stale: all.some(({ stale }) => stale),
        instances: all.flatMap(({ instances }) => instances),
      };
    },
    [Symbol.dispose]: () => watching.dispose(),
  };
}
