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
  setBan: (_, record) => (store) => store.restoreBans([record]),
  restoreBans: ([records]) => (store) => store.restoreBans(records),
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
    this.store = new Proxy(this.#present, {
      get: (_, name) => {
        const present: Args = this.#present;
        const found = present[name];
        if (typeof found !== "function") return found;
        const redo = redoOf[String(name)];
        return redo === undefined
          ? found.bind(present)
          : (...args: unknown[]) => this.#write(redo, args, found.apply(present, args));
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
