/** A registry with sessions, as ZooKeeper is one: who is silent for too long is gone, and finds that out when it is back. */
import type {
  Cell,
  Instance,
  Lease,
  Registration,
  Registry,
  RegistryState,
  View,
} from "../registry/registry.ts";
import { ConflictError, NameTakenError, RegistryUnavailableError } from "../registry/registry.ts";
import type { Way } from "./sim_network.ts";
import { Actor, type VirtualTime } from "./sim_time.ts";

interface Watch {
  readonly service: string;
  readonly onView: (view: View) => void;
}

interface Owned {
  instance: Instance;
  held: boolean;
}

interface Session {
  readonly actor: Actor;
  readonly way: Way;
  readonly watches: Set<Watch>;
  readonly owned: Map<string, Owned>;
  heardAt: number;
  expired: boolean;
}

export const sessionMs = 2000;

export class SimRegistry {
  readonly actor = new Actor("registry");
  readonly #time: VirtualTime;
  readonly #sessions = new Set<Session>();
  readonly #instances = new Map<
    string,
    { readonly instance: Instance; readonly session: Session }
  >();
  readonly #cells = new Map<string, { value: string; version: number }>();

  constructor(time: VirtualTime) {
    this.#time = time;
    time.after(0, () => setInterval(() => this.#expire(), 200), this.actor);
  }

  instances(service: string): Instance[] {
    return [...this.#instances.values()].map(({ instance }) => instance)
      .filter((instance) => instance.service === service)
      .sort((a, b) => a.name < b.name ? -1 : 1);
  }

  /** One process's client. */
  open(actor: Actor, way: Way): Registry {
    const session: Session = {
      actor,
      way,
      watches: new Set(),
      owned: new Map(),
      heardAt: this.#time.now,
      expired: false,
    };
    this.#sessions.add(session);
    const beat = setInterval(() => {
      if (actor.dead) return;
      this.#ask(way, () => this.#hear(session)).catch(() => {});
    }, sessionMs / 4);
    let state: RegistryState = "connected";
    const ask = <T>(work: () => T): Promise<T> => {
      if (state === "closed") return Promise.reject(new RegistryUnavailableError("closed"));
      return this.#ask(way, work);
    };
    return {
      get state() {
        if (state === "closed") return state;
        return way.blocked ? "suspended" : "connected";
      },
      register: (instance) => this.#register(session, instance, ask),
      watch: (service, onView) =>
        ask(() => {
          const watch = { service, onView };
          session.watches.add(watch);
          const { instances } = this.#view(service);
          return { watch, instances };
        }).then(({ watch, instances }) => {
          onView({ instances, stale: false });
          return { [Symbol.dispose]: () => void session.watches.delete(watch) };
        }),
      acquire: (): Promise<Lease | undefined> => Promise.reject(new Error("not simulated")),
      cell: (key): Cell => ({
        read: () => ask(() => this.#cells.get(key)),
        write: (value, expected) =>
          ask(() => {
            const now = this.#cells.get(key);
            if (now?.version !== expected?.version || now?.value !== expected?.value) {
              throw new ConflictError(key);
            }
            const stored = { value, version: (now?.version ?? -1) + 1 };
            this.#cells.set(key, stored);
            return stored;
          }),
      }),
      now: () => ask(() => Date.now()),
      [Symbol.asyncDispose]: async () => {
        state = "closed";
        clearInterval(beat);
        this.#end(session);
        this.#sessions.delete(session);
      },
    };
  }

  #view(service: string): View {
    return { instances: this.instances(service), stale: false };
  }

  async #register(
    session: Session,
    first: Instance,
    ask: <T>(work: () => T) => Promise<T>,
  ): Promise<Registration> {
    const key = `${first.service} ${first.name}`;
    const owned: Owned = { instance: first, held: false };
    session.owned.set(key, owned);
    const put = () => this.#put(session, key, owned);
    for (const giveUpAt = this.#time.now + 2 * sessionMs;;) {
      try {
        await ask(put);
        break;
      } catch (error) {
        if (error instanceof NameTakenError && this.#time.now < giveUpAt) {
          await new Promise((resolve) => setTimeout(resolve, 100));
          continue;
        }
        session.owned.delete(key);
        throw error;
      }
    }
    return {
      get held() {
        return owned.held;
      },
      update: (changes) => {
        owned.instance = { ...owned.instance, ...changes };
        return ask(put);
      },
      [Symbol.asyncDispose]: async () => {
        session.owned.delete(key);
        await ask(() => {
          if (this.#instances.get(key)?.session === session) this.#instances.delete(key);
          this.#publish(first.service);
        }).catch(() => {});
      },
    };
  }

  #put(session: Session, key: string, owned: Owned): void {
    if (session.owned.get(key) !== owned || !this.#sessions.has(session)) return;
    const holder = this.#instances.get(key);
    owned.held = holder === undefined || holder.session === session;
    if (!owned.held) throw new NameTakenError(key);
    this.#instances.set(key, { instance: owned.instance, session });
    this.#publish(owned.instance.service);
  }

  /** A round trip that fails after a while where nothing passes. */
  #ask<T>(way: Way, work: () => T): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const from = this.#time.current;
    const timer = setTimeout(() => reject(new RegistryUnavailableError("no answer")), 1000);
    way.pass(() =>
      this.#time.after(way.delay(), () => {
        let answer: () => void;
        try {
          const result = work();
          answer = () => resolve(result);
        } catch (error) {
          answer = () => reject(error);
        }
        way.pass(() => this.#time.after(way.delay(), answer, from));
      }, this.actor)
    );
    return promise.finally(() => clearTimeout(timer));
  }

  /** One whose session has ended begins another and puts back what it owns. */
  #hear(session: Session): void {
    // What a process sent before its end may arrive later than its session has ended.
    if (!this.#sessions.has(session)) return;
    session.heardAt = this.#time.now;
    const wasExpired = session.expired;
    session.expired = false;
    for (const [key, owned] of session.owned) {
      if (owned.held && !wasExpired) continue;
      try {
        this.#put(session, key, owned);
      } catch {
        // Another holds the name; it is tried again.
      }
    }
    if (wasExpired) { for (const watch of session.watches) this.#tell(session, watch); }
  }

  #expire(): void {
    for (const session of this.#sessions) {
      if (session.expired || this.#time.now - session.heardAt < sessionMs) continue;
      session.expired = true;
      this.#end(session);
      if (session.actor.dead) this.#sessions.delete(session);
    }
  }

  #end(session: Session): void {
    for (const [key, { session: holder, instance }] of this.#instances) {
      if (holder !== session) continue;
      this.#instances.delete(key);
      this.#publish(instance.service);
    }
  }

  #publish(service: string): void {
    for (const session of this.#sessions) {
      for (const watch of session.watches) {
        if (watch.service === service) this.#tell(session, watch);
      }
    }
  }

  #tell({ way, actor }: Session, watch: Watch): void {
    // What is told is what is true when it is read.
    way.pass(() => {
      this.#time.after(way.delay(), () => watch.onView(this.#view(watch.service)), actor);
    });
  }
}
