/**
 * What the others see of a node. It is listed as `idgen-node` as long as it lives, and as `idgen`, the service that
 * clients call, only while it issues ids: a standby gets no calls that it would have to refuse.
 */
import { type Node, version } from "@gru/shared/node";
import { sayFarewell } from "@gru/shared/farewell";
import type { Registration } from "@gru/shared/registry";
import { sleep } from "./issuer.ts";

export interface Listing extends AsyncDisposable {
  /** Others see what this node is. */
  readonly isCurrent: boolean;
  /** The worker of which ids are issued; undefined: standing by. Takes effect soon after. */
  show(worker: number | undefined): void;
}

/**
 * Goes on trying while the registry cannot be reached or another process has the name: a node that was killed and
 * started again need not outlive its own last session to be of use.
 */
export function listNode(
  node: Node,
  options: { readonly address: string; readonly order: string; readonly retryMs: number },
): Listing {
  const { address, order, retryMs } = options;
  const addresses = { rpc: address };
  const life = { service: "idgen-node", name: node.name, startedAt: Date.now() };
  const closing = new AbortController();
  let callable: Registration | undefined;
  let listed: Registration | undefined;
  let wanted: number | undefined;
  let isCurrent = false;
  let mending = Promise.resolve();

  function metaOf(worker: number | undefined) {
    const active = worker !== undefined;
    return { version, order, active, ...(active ? { worker } : {}) };
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

  async function mend(): Promise<void> {
    let complaint: string | undefined;
    while (!isCurrent && !closing.signal.aborted) {
      const worker = wanted;
      try {
        await show(worker);
        isCurrent = worker === wanted;
      } catch (error) {
        if (complaint !== String(error)) node.log.warn("not listed yet: {error}", { error });
        complaint = String(error);
        await sleep(retryMs, closing.signal);
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
      mending = mending.then(mend);
    },
    [Symbol.asyncDispose]: async () => {
      closing.abort();
      await mending;
      await leave();
      await sayFarewell(node.registry, life);
      await listed?.[Symbol.asyncDispose]();
    },
  };
}
