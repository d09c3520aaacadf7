/**
 * A client as the guarantees suppose it: it remembers how far it has seen each target, comes back to where ticket sends it
 * whenever its connection ends, says there what it saw last, and sends again what was not answered. For tests.
 */
import { RawClient } from "../../spear/raw_client.ts";
import type { Json } from "../../spear/test_client.ts";
import { askTicket } from "./scenario.ts";

/** What all clients of a run have seen, counted. */
export class Ledger {
  /** Per group and epoch, the seq of each accepted message by its content. */
  readonly accepted = new Map<string, Map<string, number>>();
  sent = 0;
  acceptedCount = 0;
  refused = 0;
  delivered = 0;
  /** The same content to the same client twice. */
  doubled = 0;
  outOfOrder = 0;
  /** Gaps in seq of which the client was not told. */
  untoldGaps = 0;
  missedTold = 0;
  reconnects = 0;
  unrecovered = 0;
  /** The longest that any client heard nothing of its group, milliseconds. */
  longestSilenceMs = 0;
}

interface Waiting {
  readonly number: number;
  readonly content: string;
}

const retryMs = 200;
/** As long as a stock client waits for its first connection. */
const connectMs = 20_000;

export class TrackingClient implements AsyncDisposable {
  readonly userId: number;
  readonly group: number;
  readonly #ticketUrl: string;
  readonly #ledgerOfNow: () => Ledger;
  readonly #seen = new Map<string, number>();
  readonly #unanswered = new Map<number, Waiting>();
  readonly firstSeq = new Map<string, number>();
  #client: RawClient | undefined;
  #ready = false;
  #epoch: string | undefined;
  #seq = 0;
  #ownPosition: { epoch: string; seq: number } | undefined;
  #count = 0;
  #heardAt = performance.now();
  #stopped = false;
  #running: Promise<void>;
  #results = new Map<number, (result: Json) => void>();

  constructor(ticketUrl: string, userId: number, group: number, ledgerOfNow: () => Ledger) {
    this.#ticketUrl = ticketUrl;
    this.userId = userId;
    this.group = group;
    this.#ledgerOfNow = ledgerOfNow;
    this.#running = this.#run();
  }

  get #ledger(): Ledger {
    return this.#ledgerOfNow();
  }

  get ready(): boolean {
    return this.#ready;
  }

  get unanswered(): number {
    return this.#unanswered.size;
  }

  get position(): { epoch: string | undefined; seq: number } {
    return { epoch: this.#epoch, seq: this.#seq };
  }

  /** The contents that came, with their seqs. */
  get seen(): ReadonlyMap<string, number> {
    return this.#seen;
  }

  say(): void {
    const number = ++this.#count;
    const message = { number, content: `${this.userId}:${number}` };
    this.#unanswered.set(number, message);
    this.#ledger.sent++;
    if (this.#ready) this.#send(message);
  }

  /** Says that time was quiet until now by intent: silence counts from here. */
  resetSilence(): void {
    this.#heardAt = performance.now();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    this.#client?.close();
    await this.#running;
  }

  async #run(): Promise<void> {
    for (let first = true; !this.#stopped; first = false) {
      try {
        if (!first) this.#ledger.reconnects++;
        const client = await this.#enter();
        await client.closed;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, retryMs * (0.5 + Math.random())));
      }
      this.#ready = false;
      for (const settle of this.#results.values()) settle(undefined);
    }
  }

  async #enter(): Promise<RawClient> {
    const ticket = await askTicket(this.#ticketUrl, this.userId);
    // As Gru's clients do: the ticket's node, then its backups.
    let failure: unknown;
    for (const { addr } of [ticket, ...ticket.backupNodes]) {
      try {
        return await this.#enterAt(addr, ticket.token);
      } catch (error) {
        failure = error;
        if (this.#stopped) break;
      }
    }
    throw failure;
  }

  async #enterAt(addr: string, token2: string): Promise<RawClient> {
    const { hostname, port } = new URL(addr);
    const client = await RawClient.connect({
      host: hostname,
      port: Number(port),
      onPacket: (packet) => this.#take(packet.toString()),
    });
    this.#client = client;
    try {
      const auth = await this.#request(client, 1, "auth", {
        id: this.userId,
        name: `user${this.userId}`,
        appType: "1",
        token1: "t",
        token2,
        since: this.#ownPosition,
      });
      if (!auth.success) throw new Error(auth.msg);
      this.#ownPosition = { epoch: auth.data.epoch, seq: auth.data.seq };
      const since = this.#epoch === undefined ? undefined : { epoch: this.#epoch, seq: this.#seq };
      const result = await this.#request(client, 2, "subscribe", {
        userId: this.userId,
        subscribeGroups: [{ id: this.group, since }],
      });
      if (!result.success) throw new Error(result.msg);
      if (since !== undefined && !result.data.positions[0].recovered) this.#ledger.unrecovered++;
      this.#ready = true;
      for (const message of this.#unanswered.values()) this.#send(message);
      return client;
    } catch (error) {
      client.close();
      throw error;
    }
  }

  #request(client: RawClient, ack: number, event: string, argument: object): Promise<Json> {
    const { promise, resolve, reject } = Promise.withResolvers<Json>();
    const timer = setTimeout(() => settle(undefined), connectMs);
    const settle = (result: Json) => {
      clearTimeout(timer);
      this.#results.delete(ack);
      if (result === undefined) reject(new Error(`no answer to ${event}`));
      else resolve(result);
    };
    this.#results.set(ack, settle);
    client.send(`2${ack}${JSON.stringify([event, argument])}`);
    return promise;
  }

  #send({ number, content }: Waiting): void {
    const message = { type: 1, target: { id: this.group }, content, clientMsgId: content };
    this.#client?.send(`2${number + 1000}${JSON.stringify(["msg", message])}`);
  }

  #take(packet: string): void {
    const start = packet.indexOf("[");
    const payload = JSON.parse(packet.slice(start));
    if (packet.startsWith("3")) this.#takeResult(Number(packet.slice(1, start)), payload[0]);
    else if (payload[0] === "msg") this.#takeMessage(payload[1]);
    else if (payload[0] === "missed") this.#takeMissed(payload[1]);
    else if (payload[0] === "move") this.#moveIn(payload[1].delayMs);
  }

  #takeResult(ack: number, result: Json): void {
    if (ack < 1000) {
      const [position] = result.data?.positions ?? [];
      // Here and now: the next packet may be a message that follows on.
      if (position !== undefined && this.#epoch === undefined) {
        this.#enterEpoch(position.epoch, position.seq);
      }
      return this.#results.get(ack)?.(result);
    }
    const waiting = this.#unanswered.get(ack - 1000);
    if (waiting === undefined) return;
    if (!result.success) {
      // Not accepted, so that it may be sent again.
      this.#ledger.refused++;
      setTimeout(() => this.#ready && this.#send(waiting), retryMs);
      return;
    }
    this.#unanswered.delete(waiting.number);
    this.#ledger.acceptedCount++;
    const key = `${this.group} ${result.data.epoch}`;
    this.#ledger.accepted.getOrInsertComputed(key, () => new Map())
      .set(waiting.content, result.data.seq);
  }

  #takeMessage({ seq, epoch, content }: Json): void {
    const now = performance.now();
    this.#ledger.longestSilenceMs = Math.max(this.#ledger.longestSilenceMs, now - this.#heardAt);
    this.#heardAt = now;
    if (epoch !== this.#epoch) this.#enterEpoch(epoch, 0);
    if (seq <= this.#seq) {
      if (this.#seen.get(content) === seq) this.#ledger.doubled++;
      else this.#ledger.outOfOrder++;
      return;
    }
    if (seq > this.#seq + 1) this.#ledger.untoldGaps++;
    this.#seq = seq;
    if (this.#seen.has(content)) this.#ledger.doubled++;
    this.#seen.set(content, seq);
    this.#ledger.delivered++;
  }

  /** Comes back by way of ticket, which knows that the node is leaving. */
  #moveIn(delayMs: number): void {
    const client = this.#client;
    const timer = setTimeout(() => client?.close(), delayMs);
    void client?.closed.then(() => clearTimeout(timer));
  }

  #takeMissed({ epoch, to }: Json): void {
    this.#ledger.missedTold++;
    if (epoch === this.#epoch) this.#seq = Math.max(this.#seq, to);
  }

  #enterEpoch(epoch: string, seq: number): void {
    this.#epoch = epoch;
    this.#seq = seq;
    this.firstSeq.set(epoch, seq);
  }
}

/** Accepted messages that a client should have and has not: over all clients. */
export function countLost(clients: readonly TrackingClient[], ledger: Ledger): number {
  let lost = 0;
  for (const client of clients) {
    for (const [key, contents] of ledger.accepted) {
      const [group, epoch = ""] = key.split(" ");
      const from = client.firstSeq.get(epoch);
      if (Number(group) !== client.group || from === undefined) continue;
      for (const [content, seq] of contents) {
        if (seq > from && !client.seen.has(content)) lost++;
      }
    }
  }
  return lost;
}
