/** The cluster as the registry shows it: which instances are alive, and which joined and left. */
import { type Change, Changes } from "@gru/shared/registry/changes";
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
  readonly kind: Change["kind"];
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

  function addEvent(kind: ClusterEvent["kind"], { service, name, meta }: Instance): void {
    const isGone = kind === "left" || kind === "died";
    // Nobody has looked: what it announced itself.
    const announced = typeof meta.load === "number" ? meta.load : undefined;
    const had = service === "spear" && isGone ? connections.get(name) ?? announced : undefined;
    const at = now();
    events.unshift({ at, kind, service, name, ...(had === undefined ? {} : { connections: had }) });
    events.length = Math.min(events.length, eventsKept);
    while ((events.at(-1)?.at ?? at) < at - eventsKeptMs) events.pop();
  }

  const changes = new Changes(registry, ({ kind, instance }) => addEvent(kind, instance));
  function show(service: string, view: ClusterView): void {
    views.set(service, view);
    changes.see(service, view.instances);
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
