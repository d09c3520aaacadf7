/** The live instances of one service, kept in step with the children of its ZooKeeper node. */
import { z } from "zod";
import { Reconciler } from "./reconciler.ts";
import type { Logger } from "../log.ts";
import { type Instance, RegistryUnavailableError, type View } from "../registry/registry.ts";
import { ZookeeperError, type ZookeeperSession } from "./session.ts";

const instanceSchema = z.object({
  service: z.string(),
  name: z.string(),
  addresses: z.record(z.string(), z.string()),
  startedAt: z.number(),
  meta: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
});

interface Child {
  /**
   * Compared to detect a change. Revisions are not enough, since a ZooKeeper restored from a backup counts them again.
   */
  readonly data: string;
  /** undefined when the node does not contain a valid instance. */
  readonly instance: Instance | undefined;
}

export class ServiceWatch {
  /** Reads what may have changed and notifies the listeners. */
  readonly reconciler: Reconciler;
  readonly #path: string;
  readonly #session: () => ZookeeperSession;
  readonly #log: Logger;
  readonly #listeners = new Set<{ onView: (view: View) => void }>();
  #children = new Map<string, Child>();
  /** Gone from ZooKeeper, perhaps only because an outage ended their sessions as well. */
  readonly #lingering = new Map<string, Child>();
  #lingerUntil = -Infinity;
  /** Children whose data may have changed. */
  #dirty = new Set<string>();
  #everything = true;
  /** Something changed while there was no listener, perhaps since the last read. */
  #unread = false;
  #stale = true;
  #outages = 0;
  #view: View | undefined;

  /** `session` returns a connected session or throws. */
  constructor(
    path: string,
    session: () => ZookeeperSession,
    log: Logger,
    onFailure: (error: unknown) => void,
  ) {
    this.#path = path;
    this.#session = session;
    this.#log = log;
    this.reconciler = new Reconciler(() => this.#refresh(), onFailure);
  }

  /** Calls `onView` now with the last view, and with every later one. A view must have been read before. */
  listen(onView: (view: View) => void): Disposable {
    const listener = { onView };
    this.#listeners.add(listener);
    if (this.#unread) this.reconciler.kick();
    this.#unread = false;
    if (this.#view !== undefined) this.#notify(listener, this.#view);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** There is a view, and it is kept up to date. */
  get current(): boolean {
    return !this.#stale && this.#listeners.size > 0;
  }

  /** ZooKeeper cannot be reached: the last view stays, marked as stale. */
  suspend(): void {
    this.#outages++;
    this.#stale = true;
    this.#publish();
  }

  /**
   * ZooKeeper can be reached again. After an outage that may have ended other sessions too, missing instances are kept
   * for `lingerMs`, marked as stale, because live ones register again in that time.
   */
  resume(lingerMs: number): void {
    if (lingerMs > 0) this.#lingerUntil = performance.now() + lingerMs;
    this.recheck();
  }

  /** Reads everything again. */
  recheck(): void {
    this.#everything = true;
    if (this.#listeners.size > 0) this.reconciler.kick();
  }

  /** Call regularly: removes instances that have not registered again. */
  expire(): void {
    if (this.#stale || this.#lingering.size === 0 || performance.now() < this.#lingerUntil) return;
    this.#lingering.clear();
    this.#publish();
  }

  async #refresh(): Promise<void> {
    const session = this.#session();
    const outages = this.#outages;
    const everything = this.#everything;
    const dirty = this.#dirty;
    this.#everything = false;
    this.#dirty = new Set();
    try {
      const names = await this.#list(session);
      const children = new Map<string, Child>();
      await Promise.all(names.map(async (name) => {
        const known = this.#children.get(name);
        const child = known === undefined || everything || dirty.has(name)
          ? await this.#read(session, name, known)
          : known;
        if (child !== undefined) children.set(name, child);
      }));
      if (outages !== this.#outages) {
        throw new RegistryUnavailableError(`The connection was lost while reading ${this.#path}`);
      }
      this.#replace(children);
    } catch (error) {
      this.#everything = true;
      throw error;
    }
  }

  async #list(session: ZookeeperSession): Promise<string[]> {
    try {
      return await session.children(this.#path, this.#onChange);
    } catch (error) {
      if (!(error instanceof ZookeeperError && error.code === "NO_NODE")) throw error;
      await session.createPath(this.#path);
      return await session.children(this.#path, this.#onChange);
    }
  }

  async #read(
    session: ZookeeperSession,
    name: string,
    known: Child | undefined,
  ): Promise<Child | undefined> {
    const node = await session.read(`${this.#path}/${name}`, this.#onChange);
    // An instance removed between the two reads is reported by the watch on the list.
    if (node === undefined) return undefined;
    if (node.data === known?.data) return known;
    let instance;
    try {
      instance = instanceSchema.parse(JSON.parse(node.data));
    } catch (error) {
      const path = `${this.#path}/${name}`;
      this.#log.warn("{path} does not hold an instance: {error}", { path, error });
    }
    return { data: node.data, instance };
  }

  #replace(children: Map<string, Child>): void {
    if (performance.now() < this.#lingerUntil) {
      for (const [name, child] of this.#children) this.#lingering.set(name, child);
    } else {
      this.#lingering.clear();
    }
    for (const name of children.keys()) this.#lingering.delete(name);
    this.#children = children;
    this.#stale = false;
    this.#publish();
  }

  /** One function for the object's life, since the client keeps a function once per path. */
  readonly #onChange = (event: { readonly path: string }): void => {
    if (event.path !== this.#path) this.#dirty.add(event.path.slice(this.#path.length + 1));
    if (this.#listeners.size > 0) this.reconciler.kick();
    else this.#unread = true;
  };

  #publish(): void {
    const instances = [...this.#children.values(), ...this.#lingering.values()]
      .map((child) => child.instance)
      .filter((instance) => instance !== undefined)
      .sort((a, b) => a.name < b.name ? -1 : 1);
    const stale = this.#stale || this.#lingering.size > 0;
    const last = this.#view;
    const same = last?.stale === stale && last.instances.length === instances.length &&
      last.instances.every((instance, index) => instance === instances[index]);
    // Before the first read there is nothing to report.
    if (same || last === undefined && this.#stale) return;
    const view = this.#view = { instances, stale };
    for (const listener of [...this.#listeners]) this.#notify(listener, view);
  }

  #notify(listener: { onView: (view: View) => void }, view: View): void {
    try {
      listener.onView(view);
    } catch (error) {
      this.#log.error("A listener of {path} threw {error}", { path: this.#path, error });
    }
  }
}
