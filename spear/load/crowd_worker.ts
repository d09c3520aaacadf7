/** One process of the load generator: a share of the members, and its own connections that send. It counts what arrives, and how late. */
import type { Buffer } from "node:buffer";
import { enterAll, openLine } from "./entering.ts";
import { LatencyCounts } from "./latency.ts";
import type { Line } from "./line.ts";
import { sendOnTime } from "./pace.ts";
import {
  groupOf,
  type LoadPlan,
  membersOf,
  type SoFar,
  type WorkerConnected,
  type WorkerCount,
  type WorkerResult,
} from "./plan.ts";
import { stampOfNow, StampReader } from "./stamp.ts";

export class CrowdWorker {
  readonly #plan: LoadPlan;
  readonly #senders: Line[] = [];
  #connected = 0;
  #next = 0;
  #sent = 0;
  #accepted = 0;
  #refused = 0;
  #expected = 0;
  #received = 0;
  #lost = 0;
  #latencies = new LatencyCounts();
  readonly #stamps = new StampReader();

  constructor(plan: LoadPlan) {
    this.#plan = plan;
  }

  async connect(): Promise<WorkerConnected> {
    const { senders } = this.#plan;
    const { latencies, ...entered } = await enterAll(this.#members(), this.#plan, async (i) => {
      await this.#member(i);
      this.#connected++;
    });
    for (let i = 0; i < senders; i++) this.#senders.push(await this.#sender(i));
    return { ...entered, connected: this.#connected, latencies: latencies.entries() };
  }

  async send(perSecond: number, seconds: number): Promise<void> {
    await sendOnTime(perSecond, seconds, () => this.#message());
  }

  get count(): WorkerCount {
    return { received: this.#received, expected: this.#expected };
  }

  get soFar(): SoFar {
    return {
      connected: this.#connected,
      sent: this.#sent,
      received: this.#received,
      latencies: this.#latencies,
    };
  }

  /** Counts from 0 again. */
  result(): WorkerResult {
    const result = {
      sent: this.#sent,
      accepted: this.#accepted,
      refused: this.#refused,
      expected: this.#expected,
      received: this.#received,
      latencies: this.#latencies.entries(),
      lost: this.#lost,
    };
    this.#sent =
      this.#accepted =
      this.#refused =
      this.#expected =
      this.#received =
        0;
    this.#latencies = new LatencyCounts();
    return result;
  }

  *#members(): Generator<number, void> {
    const { clients, workers, worker } = this.#plan;
    for (let i = worker; i < clients; i += workers) yield i;
  }

  #member(i: number): Promise<Line> {
    const { firstUser, targets, unicast } = this.#plan;
    return openLine(this.#plan, targets, i, {
      user: firstUser + i,
      group: unicast ? undefined : groupOf(this.#plan, i),
      onMessage: (data, start, end) => this.#receive(data, start, end),
      onLost: () => {
        this.#connected--;
        this.#lost++;
      },
    });
  }

  #sender(i: number): Promise<Line> {
    const { clients, worker, senders, firstUser, targets, sendTo = targets } = this.#plan;
    const number = worker * senders + i;
    return openLine(this.#plan, sendTo, number, {
      user: firstUser + clients + number,
      onMessage: () => {},
      onAnswer: (id, success) => {
        if (success) {
          this.#accepted++;
          return;
        }
        this.#refused++;
        this.#expected -= this.#receiversOf(id - 1);
      },
      onLost: () => this.#lost++,
    });
  }

  #message(): void {
    const { clients, groups, content, workers, worker, firstUser, firstGroup = 1, unicast } =
      this.#plan;
    const to = (worker + this.#next * workers) % (unicast ? clients : groups);
    const target = unicast ? { user: firstUser + to } : { group: firstGroup + to };
    const sender = this.#senders[this.#next++ % this.#senders.length];
    sender?.publish(target, stampOfNow().padEnd(content, "."), to + 1);
    this.#sent++;
    this.#expected += this.#receiversOf(to);
  }

  /** @param to a group or a user, counted from 0 */
  #receiversOf(to: number): number {
    return this.#plan.unicast ? 1 : membersOf(this.#plan, to);
  }

  #receive(data: Buffer, start: number, end: number): void {
    const ageUs = this.#stamps.ageUs(data, start, end);
    if (ageUs === undefined) return;
    this.#received++;
    this.#latencies.add(ageUs);
  }
}
