/** The cluster as the registry shows it: which instances are alive, and which joined and left. */
import { stoppedInOrder } from "@gru/shared/registry/orderly_stop";
import type { Instance, Registry } from "@gru/shared/registry/registry";

export interface ClusterView {
  /** The registry cannot be reached: this is the last known state. */
  readonly stale: boolean;
  /** By service, then by name. */
  readonly instances: readonly Instance[];
}

export interface ClusterEvent {
  /** Unix milliseconds. */
  readonly at: number;
  /** `left`: stopped in order. `died`: did not stop in order. */
  readonly kind: "joined" | "draining" | "left" | "died";
  readonly service: string;
  readonly name: string;
  /** Of a spear that left or died: the connections that it had last. */
  readonly connections?: number;
}

export interface Cluster extends Disposable {
  readonly view: ClusterView;
  /** The newest first; a limited number. */
  readonly events: readonly ClusterEvent[];
  /** The connections of each spear, as last known: for the event of its end. */
  readonly connections: Map<string, number>;
}

const eventsKept = 1000;
const eventsKeptMs = 86_400_000;

/** Follows the services in the registry. */
export async function watchCluster(
  registry: Registry,
  services: readonly string[],
  now: () => number = Date.now,
): Promise<Cluster> {
  const views = new Map<string, ClusterView>();
  const events: ClusterEvent[] = [];
  using stack = new DisposableStack();

  const connections = new Map<string, number>();

  function addEvent(kind: ClusterEvent["kind"], { service, name }: Instance): void {
    const isGone = kind === "left" || kind === "died";
    const had = service === "spear" && isGone ? connections.get(name) : undefined;
    const at = now();
    events.unshift({ at, kind, service, name, ...(had === undefined ? {} : { connections: had }) });
    events.length = Math.min(events.length, eventsKept);
    while ((events.at(-1)?.at ?? at) < at - eventsKeptMs) events.pop();
  }

  function show(service: string, view: ClusterView): void {
    const before = views.get(service);
    views.set(service, view);
    // Instances of the first view have not just joined.
    if (before === undefined) return;
    const known = new Map(before.instances.map((one) => [one.name, one]));
    for (const instance of view.instances) {
      const old = known.get(instance.name);
      known.delete(instance.name);
      if (old?.startedAt !== instance.startedAt) addEvent("joined", instance);
      else if (instance.meta.draining === true && old.meta.draining !== true) {
        addEvent("draining", instance);
      }
    }
    for (const gone of known.values()) {
      void stoppedInOrder(registry, gone).catch(() => false)
        .then((inOrder) => addEvent(inOrder ? "left" : "died", gone));
    }
  }

  for (const service of services) {
    stack.use(await registry.watch(service, (view) => show(service, view)));
  }
  const watching = stack.move();
  return {
    events,
    connections,
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
