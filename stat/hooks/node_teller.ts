/** Events of programs that come and go, from what the registry shows. */
import { stoppedInOrder } from "@gru/shared/registry/orderly_stop";
import type { Registry, View } from "@gru/shared/registry/registry";
import type { Telling } from "./telling.ts";

const services = ["spear", "idgen", "stat", "ticket"];

export class NodeTeller implements Disposable {
  readonly #registry: Registry;
  readonly #telling: Telling;
  readonly #views = new Map<string, View>();
  /** By name: whose stop is recorded under which service. */
  readonly #services = new Map<string, string>();
  #stack = new DisposableStack();

  private constructor(registry: Registry, telling: Telling) {
    this.#registry = registry;
    this.#telling = telling;
  }

  /** Watches until disposed. */
  static async open(registry: Registry, telling: Telling): Promise<NodeTeller> {
    const teller = new NodeTeller(registry, telling);
    using stack = new DisposableStack();
    for (const service of services) {
      const watch = await registry.watch(service, (view) => {
        teller.#views.set(service, view);
        for (const { name } of view.instances) teller.#services.set(name, service);
      });
      stack.use(watch);
    }
    teller.#stack = stack.move();
    return teller;
  }

  /**
   * Adds events for what has changed since any stat told it last. A program that is gone and did not stop in order has
   * died, also one that this stat has never seen.
   * @param token of the lease
   * @throws {RpcError} `unavailable`; errors of the registry: try again
   */
  async step(token: string): Promise<void> {
    const views = [...this.#views.values()];
    if (views.some(({ stale }) => stale)) return;
    const live = new Map(
      views.flatMap(({ instances }) => instances.map((one) => [one.name, one.startedAt] as const)),
    );
    const gone = await this.#telling.tellNodes(token, live, new Map());
    if (gone.length === 0) return;
    const ends = new Map<string, "left" | "died">();
    for (const { name, startedAt } of gone) {
      ends.set(name, await this.#hasLeft(name, startedAt) ? "left" : "died");
    }
    await this.#telling.tellNodes(token, live, ends);
  }

  async #hasLeft(name: string, startedAt: number): Promise<boolean> {
    const known = this.#services.get(name);
    for (const service of known === undefined ? services : [known]) {
      if (await stoppedInOrder(this.#registry, { service, name, startedAt })) return true;
    }
    return false;
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}
