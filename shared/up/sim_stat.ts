/** Stat's store in a simulated cluster: like its Redis, it may come back without its last moments, or with nothing. */
import type { StatStore } from "../../stat/store.ts";
import { MemoryStore } from "../../stat/store_memory.ts";

/** Does once more what was done, as it was answered then. */
type Redo = (store: StatStore) => Promise<unknown>;

// deno-lint-ignore no-explicit-any
type Args = any;

/** What is written, by method. */
const redoOf: Readonly<Record<string, (args: Args, answer: Args) => Redo>> = {
  apply: ([report, ttlMs]) => (store) => store.apply(report, ttlMs),
  claim: ([node, session, takeOver]) => (store) => store.claim(node, session, takeOver),
  removeNode: ([node]) => (store) => store.removeNode(node),
  "bans.set": (_, record) => (store) => store.bans.restore([record]),
  "bans.restore": ([records]) => (store) => store.bans.restore(records),
  kick: ([userId], at) => (store) => store.restoreKicks([{ userId, at }]),
  restoreKicks: ([kicks]) => (store) => store.restoreKicks(kicks),
};

export class SimStatStore {
  /** What stat has of it. */
  readonly store: StatStore;
  #present: StatStore = new MemoryStore();
  #written: { readonly at: number; readonly redo: Redo }[] = [];
  readonly #now: () => number;

  /** @param now virtual milliseconds */
  constructor(now: () => number) {
    this.#now = now;
    this.store = this.#view() as StatStore;
  }

  /** @param part of the store, e.g. `bans` */
  #view(part?: string): object {
    const owner = (): Args => part === undefined ? this.#present : (this.#present as Args)[part];
    return new Proxy(owner(), {
      get: (_, name) => {
        const found = owner()[name];
        const path = part === undefined ? String(name) : `${part}.${String(name)}`;
        if (path === "bans" || path === "mutes") return this.#view(path);
        if (typeof found !== "function") return found;
        const redo = redoOf[path];
        return redo === undefined
          ? found.bind(owner())
          : (...args: unknown[]) => this.#write(redo, args, found.apply(owner(), args));
      },
    });
  }

  /** What was written since then is gone. @param since virtual milliseconds */
  lose(since: number): void {
    this.#written = this.#written.filter(({ at }) => at < since);
    this.#present = new MemoryStore();
    for (const { redo } of this.#written) void redo(this.#present);
  }

  async #write(redo: (typeof redoOf)[string], args: unknown[], answer: Promise<unknown>) {
    const at = this.#now();
    const answered = await answer;
    this.#written.push({ at, redo: redo(args, answered) });
    return answered;
  }
}
