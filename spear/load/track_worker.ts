/** One process of the load generator that tracks each message: whole groups of clients, which are the library's and send themselves. */
import { pause } from "@gru/shared/pause";
import { LatencyCounts } from "./latency.ts";
import { type Counts, Ledger } from "./ledger.ts";
import { groupOf, type LoadPlan, type SoFar, type WorkerConnected } from "./plan.ts";
import { settled, Talk, Witness } from "./witness.ts";

/** How long a client may take to come in. */
const enterMs = 120_000;

export class TrackWorker {
  readonly #plan: LoadPlan;
  readonly #witnesses: Witness[] = [];
  #ledger = new Ledger();
  /** Stays empty: the messages of the library's clients carry no stamp. */
  readonly #latencies = new LatencyCounts();

  constructor(plan: LoadPlan) {
    this.#plan = plan;
  }

  async connect(): Promise<WorkerConnected> {
    const { connecting } = this.#plan;
    const began = performance.now();
    const latencies = new LatencyCounts();
    const members = this.#members();
    await Promise.all(Array.from({ length: connecting }, async () => {
      for (const [userId, group] of members) {
        const first = performance.now();
        const witness = new Witness({
          ticket: this.#plan.ticket ?? "",
          userId,
          group,
          ledger: () => this.#ledger,
        });
        this.#witnesses.push(witness);
        await entered(witness);
        latencies.add((performance.now() - first) * 1000);
      }
    }));
    return {
      connected: this.#witnesses.length,
      seconds: (performance.now() - began) / 1000,
      retries: 0,
      latencies: latencies.entries(),
    };
  }

  /** Its clients in turn, on time. */
  async send(perSecond: number, seconds: number): Promise<void> {
    this.#ledger = new Ledger();
    for (const witness of this.#witnesses) {
      witness.forget();
      witness.resetSilence();
    }
    using talk = new Talk(this.#witnesses, perSecond, this.#plan.content);
    talk.start();
    await pause(seconds * 1000);
  }

  get soFar(): SoFar {
    return {
      connected: this.#witnesses.filter(({ readySince }) => readySince < Infinity).length,
      sent: this.#ledger.sent,
      received: this.#ledger.delivered,
      latencies: this.#latencies,
    };
  }

  async result(): Promise<Counts> {
    return await settled(this.#witnesses, this.#ledger);
  }

  /** A group has all its members in one process, which can so compare what they get. */
  *#members(): Generator<readonly [userId: number, group: number]> {
    const { clients, workers, worker, firstUser, firstGroup = 1 } = this.#plan;
    for (let i = 0; i < clients; i++) {
      const group = groupOf(this.#plan, i);
      if ((group - firstGroup) % workers === worker) yield [firstUser + i, group];
    }
  }
}

async function entered(witness: Witness): Promise<void> {
  for (const endAt = performance.now() + enterMs; !witness.ready;) {
    if (performance.now() > endAt) {
      throw new Error(`user ${witness.userId} is not in after ${enterMs} ms: ${witness.trouble}`);
    }
    await pause(5);
  }
}
