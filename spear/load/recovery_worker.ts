/**
 * One process of the load generator for a recovery storm: whole groups of members that all lose their connections at once and
 * come back with the position of the last message that they have, while messages go on being sent.
 */
import type { Buffer } from "node:buffer";
import type { Position } from "@gru/client";
import { pause } from "@gru/shared/pause";
import { enterAll, type Entered, openLine } from "./entering.ts";
import { LatencyCounts } from "./latency.ts";
import { Ledger, Member } from "./ledger.ts";
import type { Joined, Line } from "./line.ts";
import { holdsWithin, sendOnTime } from "./pace.ts";
import {
  groupOf,
  type LoadPlan,
  type RecoveryResult,
  type SoFar,
  type WorkerConnected,
} from "./plan.ts";
import { stampOfNow, StampReader } from "./stamp.ts";

/** How long an answer may take. */
const patienceMs = 30_000;
/** When nothing more has come for this long, nothing will. */
const quietMs = 3000;

export class RecoveryWorker {
  readonly #plan: LoadPlan;
  readonly #members: ReturningMember[];
  readonly #groups: readonly number[];
  readonly #senders: Line[] = [];
  readonly #unanswered = new Map<number, { readonly group: number; readonly content: string }>();
  readonly #ledger = new Ledger();
  readonly #live = new LatencyCounts();
  #back: Entered | undefined;

  constructor(plan: LoadPlan) {
    this.#plan = plan;
    const { clients, workers, worker } = plan;
    const own = Array.from({ length: clients }, (_, i) => i)
      .filter((i) => (groupOf(plan, i) - groupOf(plan, 0)) % workers === worker);
    this.#members = own.map((i) => new ReturningMember(plan, i, this.#ledger, this.#live));
    this.#groups = [...new Set(this.#members.map(({ group }) => group))];
  }

  async connect(): Promise<WorkerConnected> {
    const { clients, senders, worker, firstUser, targets, sendTo = targets } = this.#plan;
    const { latencies, ...entered } = await enterAll(
      this.#members,
      this.#plan,
      (member) => member.come(),
    );
    for (let i = 0; i < senders; i++) {
      const number = worker * senders + i;
      const sender = openLine(this.#plan, sendTo, number, {
        user: firstUser + clients + number,
        onMessage: () => {},
        onAnswer: (id, success, text) => this.#take(id, success, text),
        onLost: () => {},
      });
      this.#senders.push(await sender);
    }
    return { ...entered, connected: this.#members.length, latencies: latencies.entries() };
  }

  /** Cuts all members at half of the time. Resolves when all is sent and all are back. */
  async send(perSecond: number, seconds: number): Promise<void> {
    const cut = pause(seconds * 500).then(() => this.#cut());
    if (this.#groups.length > 0) await sendOnTime(perSecond, seconds, () => this.#message());
    await cut;
  }

  get soFar(): SoFar {
    return {
      connected: this.#members.filter(({ isIn }) => isIn).length,
      sent: this.#ledger.sent,
      received: this.#ledger.delivered,
      latencies: this.#live,
    };
  }

  /** Resolves when everything is answered and has come, or will not come any more. */
  async result(): Promise<RecoveryResult> {
    await holdsWithin(patienceMs, () => this.#unanswered.size === 0);
    await this.#untilQuiet();
    const sum = (of: (member: ReturningMember) => number) =>
      this.#members.reduce((all, member) => all + of(member), 0);
    const { seconds = 0, retries = 0, latencies } = this.#back ?? {};
    return {
      counts: this.#ledger.counts(this.#members),
      recovered: sum(({ recovered }) => recovered),
      wholly: sum(({ told }) => Number(told === true)),
      partly: sum(({ told }) => Number(told === false)),
      backSeconds: seconds,
      back: latencies?.entries() ?? [],
      retries,
      latencies: this.#live.entries(),
    };
  }

  async #cut(): Promise<void> {
    for (const member of this.#members) member.cut();
    await pause(this.#plan.awayMs ?? 0);
    const all = Math.max(this.#members.length, 1);
    this.#back = await enterAll(
      this.#members,
      { ...this.#plan, connecting: all },
      (member) => member.come(),
    );
    this.#ledger.reconnects += this.#members.length;
  }

  async #untilQuiet(): Promise<void> {
    let delivered = -1;
    const hasCome = () => this.#ledger.lostTo(this.#members) === 0;
    while (delivered !== this.#ledger.delivered) {
      delivered = this.#ledger.delivered;
      if (await holdsWithin(quietMs, hasCome, 200)) return;
    }
  }

  #message(): void {
    const number = ++this.#ledger.sent;
    const group = this.#groups[number % this.#groups.length] ?? NaN;
    // Unlike any other: the ledger knows messages by their content.
    const content = `${stampOfNow()}:${this.#plan.worker}:${number}`
      .padEnd(this.#plan.content, ".");
    this.#unanswered.set(number, { group, content });
    this.#senders[number % this.#senders.length]?.publish({ group }, content, number);
  }

  #take(id: number, success: boolean, text: () => string): void {
    const sent = this.#unanswered.get(id);
    if (sent === undefined) return;
    this.#unanswered.delete(id);
    if (success) this.#ledger.accept(sent.group, sent.content, JSON.parse(text())[0].data);
    else this.#ledger.refused++;
  }
}

class ReturningMember extends Member {
  /** Messages that came before the answer to its return. */
  recovered = 0;
  /** Whether the last return brought everything, in the words of the answer. */
  told: boolean | undefined;
  isIn = false;
  readonly #plan: LoadPlan;
  readonly #number: number;
  readonly #latencies: LatencyCounts;
  readonly #stamps = new StampReader();
  #line: Line | undefined;

  constructor(plan: LoadPlan, number: number, ledger: Ledger, latencies: LatencyCounts) {
    super(groupOf(plan, number), () => ledger);
    this.#plan = plan;
    this.#number = number;
    this.#latencies = latencies;
  }

  cut(): void {
    this.#line?.close();
    this.isIn = false;
  }

  /** Connects with the position of the last message that has come. */
  async come(): Promise<void> {
    const { firstUser, targets } = this.#plan;
    const since = this.position;
    this.#line = await openLine(this.#plan, targets, this.#number, {
      ...{ user: firstUser + this.#number, group: this.group, since },
      onJoined: (joined) => this.#join(since, joined),
      onMessage: (data, start, end) => this.#receive(data, start, end),
      onLost: () => this.isIn = false,
    });
  }

  #join(since: Position | undefined, joined: Joined): void {
    this.isIn = true;
    this.enter(joined);
    if (since === undefined) return;
    this.told = joined.recovered;
    if (joined.recovered) return;
    const from = since.epoch === joined.epoch ? since.seq + 1 : 1;
    this.missed({ epoch: joined.epoch, from, to: joined.seq });
  }

  #receive(data: Buffer, start: number, end: number): void {
    // `20["msg",{…}]`
    const [name, body] = JSON.parse(data.toString("utf8", data.indexOf("[", start), end));
    if (name === "missed") return this.missed(body);
    if (name !== "msg") return;
    if (this.isIn) this.#latencies.add(this.#stamps.ageUs(data, start, end) ?? 0);
    else this.recovered++;
    this.message(body);
  }
}
