/** How each spear does just now: the spears are asked themselves, and only while a page wants to know. */
import type { SpearContract } from "@gru/spear/contract";
import type { RpcClient } from "@gru/shared/rpc/client";
import type { NodeVitals } from "./snapshot.ts";

/** How long a sample serves all pages: so long a spear is asked once, however many look. */
const freshMs = 2000;
/** A spear that does not answer in time is shown as unknown. */
const timeoutMs = 1500;

export class Vitals {
  readonly #spears: Pick<RpcClient<SpearContract>, "at">;
  readonly #names: () => readonly string[];
  readonly #now: () => number;
  #sample: { readonly at: number; readonly nodes: Promise<readonly NodeVitals[]> } | undefined;

  /**
   * @param names of the live spears
   * @param now milliseconds that only grow
   */
  constructor(
    spears: Pick<RpcClient<SpearContract>, "at">,
    names: () => readonly string[],
    now: () => number = () => performance.now(),
  ) {
    this.#spears = spears;
    this.#names = names;
    this.#now = now;
  }

  /** Of every live spear, as of two seconds ago at most. */
  read(): Promise<readonly NodeVitals[]> {
    const now = this.#now();
    if (this.#sample === undefined || now - this.#sample.at >= freshMs) {
      this.#sample = { at: now, nodes: Promise.all(this.#names().map((node) => this.#ask(node))) };
    }
    return this.#sample.nodes;
  }

  async #ask(node: string): Promise<NodeVitals> {
    const vitals = await this.#spears.at(node).vitals({}, { timeoutMs }).catch(() => null);
    return { node, vitals };
  }
}
