/** A whole cluster of real processes at work, and what comes and goes in it: clients, nodes, sessions, servers. For soaks. */
import { freePort, waitFor } from "@gru/shared/testing/harness";
import { FaultyProxy } from "@gru/shared/testing/proxy";
import { pause } from "@gru/shared/pause";
import { randomOf } from "./fuzz.ts";
import { type Flags, type ProgramName, type RunningProgram, TestCluster } from "./processes.ts";
import { type Sample, takeSample } from "./soak_measures.ts";
import { type Counts, faultsOf as faultsIn, Ledger } from "../../spear/load/ledger.ts";
import { settled, Talk, Witness } from "../../spear/load/witness.ts";

export interface SoakOptions {
  readonly seed: number;
  readonly clients: number;
  readonly messagesPerSecond: number;
  /** How long history is kept: what a client or a group leaves in Redis is gone after it. */
  readonly historyMs: number;
}

/** What the clients saw in one round, and what was there at its end, in a quiet moment. */
export interface Round {
  readonly event: string;
  readonly sample: Sample;
  readonly counts: Counts;
}

/** What must be 0 and is not. */
export function faultsOf({ counts }: Round): string[] {
  return Object.entries(faultsIn(counts)).filter(([, count]) => count !== 0)
    .map(([fault, count]) => `${count} ${fault}`);
}

const tickMs = 1000;
const sessionMs = 2500;
const asleepMs = 2 * sessionMs;
const groupSize = 10;
const drainMs = 3000;
const secrets = { GRU_CLUSTER_KEY: "a cluster key", GRU_STAT_API_KEY: "an API key" };
const apiHeaders = {
  "content-type": "application/json",
  authorization: `Bearer ${secrets.GRU_STAT_API_KEY}`,
};
/** One connection is cut, and one client comes or goes, so often. */
const churnMs = 1000;

/** These are never ended. */
const lasting = ["idgen1", "stat1", "spear1", "ticket1", "minions1"];

type Event = (cluster: SoakCluster) => Promise<void>;

/** Each leaves the cluster whole. The first of each program lives all the time and sleeps at most, to show whether it grows. */
export const events: Readonly<Record<string, Event>> = {
  "spear killed": (cluster) => cluster.restart(cluster.any(["spear2", "spear3"]), "SIGKILL"),
  "spear stopped": (cluster) => cluster.restart(cluster.any(["spear2", "spear3"]), "SIGTERM"),
  "spear asleep": (cluster) => cluster.sleep([cluster.any(["spear1", "spear2", "spear3"])]),
  "a new spear comes and goes": (cluster) => cluster.visit(),
  "idgen and stat killed": async (cluster) => {
    await Promise.all(["idgen2", "stat2"].map((name) => cluster.restart(name, "SIGKILL")));
  },
  "idgen, stat, ticket, minions asleep": (cluster) =>
    cluster.sleep(["idgen1", "stat1", "ticket1", "minions1"]),
  "ZooKeeper restarted": async ({ servers: { zookeeper } }) => {
    await zookeeper.kill();
    await pause(1000);
    await zookeeper.start();
  },
  "Redis restarted": async ({ servers: { redis } }) => {
    await redis.kill();
    await pause(1000);
    await redis.start();
  },
};

/** Disposing ends all of it. */
export class SoakCluster implements AsyncDisposable {
  readonly #options: SoakOptions;
  readonly #random: () => number;
  readonly #programs = new Map<string, RunningProgram>();
  readonly #clients: Witness[] = [];
  /** Between the clients and each spear. */
  readonly #lines = new Map<string, FaultyProxy>();
  readonly #owned = new AsyncDisposableStack();
  readonly servers: TestCluster;
  readonly #api = `http://127.0.0.1:${freePort()}`;
  #ledger = new Ledger();
  #lastUser = 0;
  #lastGroup = 0;
  #lastVisitor = 10;

  private constructor(options: SoakOptions, servers: TestCluster) {
    this.#options = options;
    this.#random = randomOf(options.seed);
    this.servers = this.#owned.use(servers);
  }

  /** ZooKeeper, Redis, two idgens, two stats, three spears, a ticket, a console and the clients; resolves when all are in. */
  static async start(options: SoakOptions): Promise<SoakCluster> {
    const servers = await TestCluster.start({ tickMs });
    await using stack = new AsyncDisposableStack();
    const cluster = stack.use(new SoakCluster(options, servers));
    for (const [program, count] of [["idgen", 2], ["stat", 2], ["spear", 3]] as const) {
      for (let id = 1; id <= count; id++) await cluster.#add(program, id);
    }
    await Promise.all([cluster.#add("ticket", 1), cluster.#add("minions", 1)]);
    while (cluster.#clients.length < options.clients) cluster.#addGroup();
    await cluster.#whole();
    stack.move();
    return cluster;
  }

  any<T>(values: readonly T[]): T {
    return values[Math.floor(this.#random() * values.length)] as T;
  }

  /** All events in a new order. */
  shuffled(): string[] {
    return Object.keys(events).map((name) => [this.#random(), name] as const)
      .sort(([a], [b]) => a - b).map(([, name]) => name);
  }

  async restart(name: string, signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    const { process, restart } = this.#program(name);
    await process.kill(signal);
    const { code } = await process.ended;
    if (signal === "SIGTERM" && code !== 0) {
      throw new Error(`${name} ended with ${code} on SIGTERM; it wrote: ${process.output}`);
    }
    this.#programs.set(name, await restart());
  }

  /** They do nothing for longer than their sessions. */
  async sleep(names: readonly string[]): Promise<void> {
    const processes = names.map((name) => this.#program(name).process);
    for (const process of processes) process.freeze();
    await pause(asleepMs);
    for (const process of processes) process.thaw();
  }

  /** A spear of a name that was never there before serves for a while, and is not seen again. */
  async visit(): Promise<void> {
    const name = await this.#add("spear", ++this.#lastVisitor);
    await pause(sessionMs);
    await this.#program(name).process.kill(this.any(["SIGKILL", "SIGTERM"]));
    this.#programs.delete(name);
    await this.#lines.get(name)?.[Symbol.asyncDispose]();
    this.#lines.delete(name);
  }

  /** Load and churn of clients for `ms` at least, with the event in it; then quiet, and a look at what there is. */
  async round(event: string, ms: number): Promise<Round> {
    this.#ledger = new Ledger();
    for (const client of this.#clients) client.forget();
    const endAt = performance.now() + ms;
    using talk = new Talk(this.#clients, this.#options.messagesPerSecond);
    talk.start();
    const over = new AbortController();
    const churning = this.#churn(over.signal);
    await pause(Math.min(2000, ms / 10));
    await events[event]?.(this);
    await this.#whole();
    await pause(Math.max(0, endAt - performance.now()));
    over.abort();
    let left = false;
    void churning.then(() => left = true);
    await waitFor(() => left, { timeoutMs: 60_000, what: "those who looked in are gone" });
    talk.stop();
    await this.#whole();
    const counts = await settled(this.#clients, this.#ledger);
    const sample = await this.sample();
    await this.#replaceGroup();
    return { event, sample, counts };
  }

  async sample(): Promise<Sample> {
    const { zookeeper, redis } = this.servers;
    const programs = [...this.#programs].map(([name, { process: { pid } }]) => {
      // The spears are connected to the idgen that issues, whichever it is.
      const sharesClients = /^(spear|idgen)/.test(name);
      return { name, pid, lasts: lasting.includes(name), sharesClients };
    });
    const others = Object.entries({ zookeeper, redis }).map(([name, { pid }]) => (
      { name, pid, lasts: false, sharesClients: false }
    ));
    return await takeSample([...programs, ...others], zookeeper, redis);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#clients.map((client) => client[Symbol.asyncDispose]()));
    await this.#owned.disposeAsync();
  }

  #program(name: string): RunningProgram {
    const program = this.#programs.get(name);
    if (program === undefined) throw new Error(`there is no ${name}`);
    return program;
  }

  async #add(program: ProgramName, id: number): Promise<string> {
    const { historyMs } = this.#options;
    const name = `${program}${id}`;
    const own: Partial<Record<ProgramName, Flags>> = {
      idgen: { ceilingMs: 2000 },
      spear: { drainMs, "history.ageMs": historyMs },
      stat: id === 1 ? { httpPort: new URL(this.#api).port } : {},
      minions: { signIn: "open" },
    };
    const line = program === "spear" ? this.#lineTo(name) : {};
    const flags = { id, "zookeeper.sessionMs": sessionMs, ...own[program], ...line };
    this.#programs.set(name, await this.servers.add(program, "test1", flags, secrets));
    return name;
  }

  #lineTo(name: string): Flags {
    const port = freePort();
    const line = this.#owned.use(new FaultyProxy({ port }));
    this.#lines.set(name, line);
    return { port, advertise: `http://${line.address}` };
  }

  #client(group: number): Witness {
    return new Witness({
      ticket: this.#program("ticket1").address,
      userId: ++this.#lastUser,
      group,
      ledger: () => this.#ledger,
      retry: { firstMs: 200, mostMs: 2000 },
    });
  }

  #addGroup(): void {
    const group = ++this.#lastGroup;
    for (let i = 0; i < groupSize; i++) this.#clients.push(this.#client(group));
  }

  /** The oldest group goes with its clients, and one of new users comes. */
  async #replaceGroup(): Promise<void> {
    const gone = this.#clients.splice(0, groupSize);
    await Promise.all(gone.map((client) => client[Symbol.asyncDispose]()));
    this.#addGroup();
    await this.#whole();
  }

  /** Connections that break, clients that look in, kicks, and people at the API. */
  async #churn(over: AbortSignal): Promise<void> {
    const guests: Promise<void>[] = [];
    while (!over.aborted) {
      this.any([...this.#lines.values()]).cutOldest();
      guests.push(this.#lookIn(1 + Math.floor(this.#random() * this.#lastGroup), over));
      const { group } = this.any(this.#clients);
      await Promise.all([
        this.#ask(`/groups/${group}/presence`),
        this.#ask(`/totals`),
        this.#listen(`${this.#api}/listen?group=${group}`, over),
        this.#listen(`${this.#program("minions1").address}/events`, over),
        pause(churnMs, over).catch(() => {}),
      ]);
    }
    await Promise.all(guests);
  }

  /** A guest comes, and soon goes, or is kicked: then it stays away. */
  async #lookIn(group: number, over: AbortSignal): Promise<void> {
    await using guest = this.#client(group);
    await waitFor(() => guest.ready || over.aborted, { timeoutMs: 4 * asleepMs }).catch(() => {});
    await pause(churnMs * this.#random());
    await this.#ask(`/users/${guest.userId}/kick`, "POST");
  }

  /** While stat is away there is no answer. */
  async #ask(path: string, method = "GET"): Promise<void> {
    try {
      const response = await fetch(this.#api + path, {
        ...{ method, headers: apiHeaders, signal: AbortSignal.timeout(asleepMs) },
        ...(method === "POST" ? { body: "{}" } : {}),
      });
      await response.body?.cancel();
    } catch {
      // As it should be.
    }
  }

  async #listen(url: string, over: AbortSignal): Promise<void> {
    const stopped = new AbortController();
    void pause(churnMs / 2, over).catch(() => {}).then(() => stopped.abort());
    try {
      const { signal } = stopped;
      const response = await fetch(url, { headers: apiHeaders, signal });
      for await (const _ of response.body ?? []);
    } catch {
      // That is how one stops to listen.
    }
  }

  /** Resolves when all programs are ready, all clients are in, and all that they sent is answered. */
  async #whole(): Promise<void> {
    await Promise.all(
      [...this.#programs].map(([name, { monitor, process }]) =>
        waitFor(() => isReady(monitor), { timeoutMs: 60_000, what: `${name} is ready` })
          .catch((error) => {
            throw new Error(`${error.message}; it wrote: ${process.output}`);
          })
      ),
    );
    await waitFor(() => this.#clients.every(({ ready }) => ready), {
      timeoutMs: 120_000,
      what: "all clients are in",
    });
  }
}

async function isReady(monitor: string): Promise<boolean> {
  try {
    const response = await fetch(`${monitor}/readyz`, { signal: AbortSignal.timeout(5000) });
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false;
  }
}
