/** One snapshot of the cluster: which instances of the programs are alive. */
import type { Instance, Registry } from "@gru/shared/registry";

export interface ClusterView {
  /** The registry is out of reach: this is what was last known. */
  readonly stale: boolean;
  /** By service, then by name. */
  readonly instances: readonly Instance[];
}

export interface Cluster extends Disposable {
  readonly view: ClusterView;
}

/** Follows the services in the registry. */
export async function watchCluster(
  registry: Registry,
  services: readonly string[],
): Promise<Cluster> {
  const views = new Map<string, ClusterView>();
  const stack = new DisposableStack();
  try {
    for (const service of services) {
      stack.use(await registry.watch(service, (view) => views.set(service, view)));
    }
  } catch (error) {
    stack.dispose();
    throw error;
  }
  return {
    get view() {
      const all = services.flatMap((service) => views.get(service) ?? []);
      return {
        stale: all.some(({ stale }) => stale),
        instances: all.flatMap(({ instances }) => instances),
      };
    },
    [Symbol.dispose]: () => stack.dispose(),
  };
}
