/** What idgens do without the registry: they are asked themselves, because the registry cannot tell meanwhile. */
import type { IdgenContract } from "@gru/idgen/contract";
import { pause } from "@gru/shared/pause";
import type { RpcClient } from "@gru/shared/rpc/client";
import type { Cluster } from "./cluster.ts";

const periodMs = 2000;
const timeoutMs = 1500;

/** The cluster, in whose view an idgen that issues reserved ids without the registry has `withoutRegistry` in its meta. */
export function withIdgens(cluster: Cluster, idgen: RpcClient<IdgenContract>): Cluster {
  const closing = new AbortController();
  let without: ReadonlySet<string> = new Set();

  async function ask(): Promise<void> {
    const names = cluster.view.instances.filter(({ service, meta }) =>
      service === "idgen-node" && meta.active === true
    ).map(({ name }) => name);
    const answers = await Promise.all(names.map(async (name) => {
      const status = await idgen.at(name).status({}, { timeoutMs }).catch(() => undefined);
      return status?.withoutRegistry === true ? [name] : [];
    }));
    without = new Set(answers.flat());
  }

  void (async () => {
    while (!closing.signal.aborted) {
      await ask();
      await pause(periodMs, closing.signal);
    }
  })();

  return {
    events: cluster.events,
    connections: cluster.connections,
    get view() {
      const { stale, instances } = cluster.view;
      return {
        stale,
        instances: instances.map((one) =>
          one.service === "idgen-node" && without.has(one.name)
            ? { ...one, meta: { ...one.meta, withoutRegistry: true } }
            : one
        ),
      };
    },
    [Symbol.dispose]: () => {
      closing.abort();
      cluster[Symbol.dispose]();
    },
  };
}
