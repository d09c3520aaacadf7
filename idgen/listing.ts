/**
 * What the others see of a node. It is listed as `idgen-node` as long as it lives, and as `idgen`, the service that
 * clients call, only while it issues ids: a standby gets no calls that it would have to refuse.
 */
import type { Node } from "@gru/shared/node";
import type { Registration } from "@gru/shared/registry";
import { sleep } from "./issuer.ts";

export interface Listing extends AsyncDisposable {
  /** The worker of which ids are issued; undefined: standing by. Takes effect soon after. */
  show(worker: number | undefined): void;
}

export async function listNode(
  node: Node,
  rpc: string,
  options: { readonly order: string; readonly retryMs: number },
): Promise<Listing> {
  const { order, retryMs } = options;
  const closing = new AbortController();
  let callable: Registration | undefined;
  let wanted: number | undefined;
  let shown: number | undefined;
  let mending = Promise.resolve();
  const metaOf = (worker: number | undefined) => ({
    order,
    active: worker !== undefined,
    ...(worker === undefined ? {} : { worker }),
  });

  const listed = await node.registry.register({
    service: "idgen-node",
    name: node.name,
    addresses: { rpc },
    startedAt: Date.now(),
    meta: metaOf(undefined),
  });

  async function leave(): Promise<void> {
    const left = callable;
    callable = undefined;
    await left?.[Symbol.asyncDispose]();
  }

  async function mend(): Promise<void> {
    while (shown !== wanted && !closing.signal.aborted) {
      const worker = wanted;
      try {
        if (worker === undefined) await leave();
        else callable ??= await node.announce({ rpc }, metaOf(worker));
        await listed.update({ meta: metaOf(worker) });
        shown = worker;
      } catch (error) {
        node.log.warn("cannot tell the registry of a change: {error}", { error });
        await sleep(retryMs, closing.signal);
      }
    }
  }

  return {
    show: (worker) => {
      wanted = worker;
      mending = mending.then(mend);
    },
    [Symbol.asyncDispose]: async () => {
      closing.abort();
      await mending;
      await leave();
      await listed[Symbol.asyncDispose]();
    },
  };
}
