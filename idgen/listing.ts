/**
 * What other programs see of a node. The registry lists it as `idgen-node` while it lives. It lists it as `idgen`, the
 * service that clients call, only while the node issues ids, so a standby gets no calls.
 */
import { type Node, version } from "@gru/shared/node";
import { pause } from "@gru/shared/pause";
import { recordOrderlyStop } from "@gru/shared/registry/orderly_stop";
import type { Registration } from "@gru/shared/registry/registry";

export interface Listing extends AsyncDisposable {
  /** The registry shows the node's present state. */
  readonly isCurrent: boolean;
  /** The worker of the node's ids. Undefined: standing by. The registry shows it soon after. */
  show(worker: number | undefined): void;
}

/**
 * Retries while the registry cannot be reached or another process has the name. So a node that was killed and started
 * again becomes useful as soon as its own last session has ended.
 */
export function listNode(
  node: Node,
  options: { readonly address: string; readonly order: string; readonly retryMs: number },
): Listing {
  const { address, order, retryMs } = options;
  const addresses = { rpc: address };
  const life = { service: "idgen-node", name: node.name, startedAt: node.clock.now() };
  const closing = new AbortController();
  let callable: Registration | undefined;
  let listed: Registration | undefined;
  let wanted: number | undefined;
  let isCurrent = false;
  let updating = Promise.resolve();

  function metaOf(worker: number | undefined) {
    const active = worker !== undefined;
    const { offsetSeconds } = node.clock;
    return {
      ...{ version, order, active },
      ...(active ? { worker } : {}),
      ...(offsetSeconds === undefined ? {} : { clockOffsetSeconds: offsetSeconds }),
    };
  }

  async function leave(): Promise<void> {
    const left = callable;
    callable = undefined;
    await left?.[Symbol.asyncDispose]();
  }

  async function show(worker: number | undefined): Promise<void> {
    const meta = metaOf(worker);
    if (worker === undefined) await leave();
    else if (callable === undefined) callable = await node.announce(addresses, meta);
    else await callable.update({ meta });
    if (listed !== undefined) await listed.update({ meta });
    else listed = await node.registry.register({ ...life, addresses, meta });
  }

  async function update(): Promise<void> {
    let lastError: string | undefined;
    while (!isCurrent && !closing.signal.aborted) {
      const worker = wanted;
      try {
        await show(worker);
        isCurrent = worker === wanted;
      } catch (error) {
        if (lastError !== String(error)) {
          node.log.warn("not listed in the registry yet, will retry: {error}", { error });
        }
        lastError = String(error);
        await pause(retryMs, closing.signal);
      }
    }
  }

  return {
    get isCurrent() {
      return isCurrent;
    },
    show: (worker) => {
      wanted = worker;
      isCurrent = false;
      updating = updating.then(update);
    },
    [Symbol.asyncDispose]: async () => {
      closing.abort();
      await updating;
      await leave();
      await recordOrderlyStop(node.registry, life);
      await listed?.[Symbol.asyncDispose]();
    },
  };
}
