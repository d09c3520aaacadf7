/**
 * Sends the events of the outbox to one endpoint: at least once, those of one subject in their order. Subjects are spread
 * over lanes; each lane has one request under way and repeats it until it succeeds, while the others go on.
 */
import { pause } from "@gru/shared/pause";
import { Breaker } from "@gru/shared/webhooks/breaker";
import { type Post, PostError } from "@gru/shared/webhooks/post";
import { batchType, cloudEvent } from "./cloud_event.ts";
import type { EndpointConfig } from "./config.ts";
import { comparePositions, type HookEvent } from "./event.ts";
import { beginning, type EndpointState, type Outbox } from "./outbox.ts";
import { isWanted } from "./wanted.ts";

export interface DeliveryOptions {
  readonly endpoint: EndpointConfig;
  readonly secret: string;
  readonly source: string;
  readonly outbox: Pick<Outbox, "read">;
  readonly post: Post;
  /** As it was left by whoever sent before. */
  readonly state: EndpointState;
  /** Told of each request: how many events it had, and whether it was answered with success. */
  readonly onSent?: (events: number, isDelivered: boolean) => void;
}

const lanesCount = 8;
const perBatch = 100;
/** UTF-16 units of the data in one request: receivers take a megabyte as a rule. One event alone may have more. */
const charsPerBatch = 250_000;
/** Events read and not yet delivered, and the UTF-16 units of their data: memory is bounded whatever the receiver does. */
const [windowSize, windowChars] = [1000, 8_000_000];
const perRead = 100;
const [firstRestMs, longestRestMs] = [500, 30_000];
/** However long a receiver asks for. */
const longestRetryAfterMs = 600_000;
const lookMs = 200;

interface Entry {
  readonly event: HookEvent;
  /** Of its data. */
  readonly chars: number;
  done: boolean;
}

class Lane {
  readonly queue: Entry[] = [];
  wake = () => {};
}

export class Delivery implements AsyncDisposable {
  readonly #options: DeliveryOptions;
  readonly #closing = new AbortController();
  readonly #lanes = Array.from({ length: lanesCount }, () => new Lane());
  readonly #breaker = new Breaker(() => performance.now());
  readonly #running: Promise<unknown>;
  /** In the order of the stream. */
  #window: Entry[] = [];
  #chars = 0;
  #position: string;
  /** Read up to here. */
  #readTo: string;
  /** Nothing behind this may be sent yet. */
  #allowedTo: string;
  /** What is not behind this is given up. */
  #removedTo = beginning;
  #delivered: number;
  #failed: number;
  #lastError: EndpointState["lastError"];
  #isFailing = false;
  /** The receiver said that it wants no more. */
  #isGone = false;
  #restUntil = -Infinity;

  constructor(options: DeliveryOptions) {
    const { position, delivered, failed, lastError } = options.state;
    this.#options = options;
    this.#position = this.#readTo = this.#allowedTo = position;
    this.#delivered = delivered;
    this.#failed = failed;
    this.#lastError = lastError;
    this.#running = Promise.all(this.#lanes.map((lane) => this.#run(lane)));
  }

  get position(): string {
    return this.#position;
  }

  state(nowMs: number): EndpointState {
    const oldest = this.#window[0]?.event;
    return {
      position: this.#position,
      state: this.#isGone
        ? "gone"
        : this.#breaker.resting
        ? "resting"
        : this.#isFailing
        ? "failing"
        : "delivering",
      delivered: this.#delivered,
      failed: this.#failed,
      waiting: this.#window.filter(({ done }) => !done).length,
      lagMs: oldest === undefined ? 0 : Math.max(0, nowMs - oldest.timeMs),
      ...(this.#lastError === undefined ? {} : { lastError: this.#lastError }),
    };
  }

  /**
   * Reads more, as far as there is room.
   * @param head the last event that may be sent
   * @throws {RpcError} `unavailable`
   */
  async fill(head: string): Promise<void> {
    if (this.#isGone || comparePositions(head, this.#allowedTo) < 0) return;
    this.#allowedTo = head;
    while (this.#hasRoom && comparePositions(this.#readTo, head) < 0) {
      const { events, last, removed } = await this.#options.outbox.read(this.#readTo, perRead);
      if (this.#closing.signal.aborted) return;
      this.giveUp(removed);
      const allowed = events.filter(({ position }) => comparePositions(position, head) <= 0);
      const readTo = allowed.length < events.length ? head : last;
      for (const event of allowed) this.#take(event);
      if (comparePositions(readTo, this.#readTo) === 0) break;
      this.#readTo = readTo;
      this.#settle();
    }
  }

  /**
   * What the outbox does not keep any longer is not sent any longer, though it is here: an event `hooks.gap` says so, and what is behind
   * it must not wait for ever.
   */
  giveUp(removed: string): void {
    if (comparePositions(removed, this.#removedTo) > 0) this.#removedTo = removed;
  }

  get #hasRoom(): boolean {
    return this.#window.length < windowSize && this.#chars < windowChars;
  }

  #isGivenUp({ event }: Entry): boolean {
    return comparePositions(event.position, this.#removedTo) <= 0;
  }

  #take(event: HookEvent): void {
    const { endpoint } = this.#options;
    const { events, match, name } = endpoint;
    if (!isWanted(event, { events, match, endpoint: name })) return;
    const entry = { event, chars: JSON.stringify(event.data).length, done: false };
    this.#window.push(entry);
    this.#chars += entry.chars;
    const lane = this.#lanes[laneOf(event.subject)];
    lane?.queue.push(entry);
    lane?.wake();
  }

  /** Moves the position over what is done. */
  #settle(): void {
    let done = 0;
    while (this.#window[done]?.done) done++;
    const last = this.#window[done - 1];
    if (last !== undefined) this.#position = last.event.position;
    for (const { chars } of this.#window.splice(0, done)) this.#chars -= chars;
    if (this.#window.length === 0) this.#position = this.#readTo;
  }

  async #run(lane: Lane): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      // The same batch until it is taken: a repetition has the same id and content.
      const batch = batchOf(lane.queue);
      if (batch.length === 0) await new Promise<void>((resolve) => lane.wake = resolve);
      else if (await this.#sendUntilTaken(batch)) this.#finish(lane, batch.length);
      else this.#finish(lane, batch.findLastIndex((entry) => this.#isGivenUp(entry)) + 1);
      if (this.#isGone) return;
    }
  }

  #finish(lane: Lane, count: number): void {
    for (const entry of lane.queue.splice(0, count)) entry.done = true;
    this.#settle();
  }

  /** False: it is closed, some of it is given up, or the receiver wants no more. */
  async #sendUntilTaken(batch: readonly Entry[]): Promise<boolean> {
    const { signal } = this.#closing;
    for (let restMs = firstRestMs;; restMs = Math.min(2 * restMs, longestRestMs)) {
      const isOver = () =>
        signal.aborted || this.#isGone || batch.some((one) => this.#isGivenUp(one));
      while (!isOver() && !(performance.now() >= this.#restUntil && this.#breaker.admits())) {
        await pause(lookMs, signal);
      }
      if (isOver()) return false;
      if (await this.#send(batch)) return true;
      if (this.#isGone) return false;
      await pause(restMs * (0.5 + Math.random()), signal);
    }
  }

  async #send(batch: readonly Entry[]): Promise<boolean> {
    const { endpoint: { name, url, timeoutMs, allowPrivate }, secret, source, post, onSent } =
      this.#options;
    const [first, last] = [batch[0]?.event.position, batch.at(-1)?.event.position];
    let problem: string;
    try {
      const { status, retryAfterMs = 0 } = await post({
        url,
        secrets: secret,
        id: `${name}_${first}_${last}_${batch.length}`,
        body: JSON.stringify(batch.map(({ event }) => cloudEvent(event, source))),
        contentType: batchType,
        timeoutMs,
        allowPrivate,
        signal: this.#closing.signal,
      });
      if (status >= 200 && status < 300) {
        this.#breaker.succeeded();
        this.#isFailing = false;
        this.#delivered += batch.length;
        onSent?.(batch.length, true);
        return true;
      }
      problem = `answered with status ${status}`;
      // As in Standard Webhooks: the receiver wants no more.
      if (status === 410) this.#isGone = true;
      const restMs = Math.min(retryAfterMs, longestRetryAfterMs);
      // Another lane may have been asked to wait for longer.
      this.#restUntil = Math.max(this.#restUntil, performance.now() + restMs);
    } catch (error) {
      if (error instanceof PostError && error.kind === "aborted") return false;
      problem = error instanceof Error ? error.message : String(error);
    }
    this.#breaker.failed();
    this.#isFailing = true;
    this.#failed++;
    this.#lastError = { atMs: Date.now(), message: problem };
    onSent?.(batch.length, false);
    return false;
  }

  /** What is under way is given up: somebody will send it again. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    for (const lane of this.#lanes) lane.wake();
    await this.#running;
  }
}

/** From the beginning of the queue. */
function batchOf(queue: readonly Entry[]): readonly Entry[] {
  let chars = 0;
  const end = queue.findIndex((entry, i) => {
    chars += entry.chars;
    return i === perBatch || (i > 0 && chars > charsPerBatch);
  });
  return queue.slice(0, end < 0 ? queue.length : end);
}

function laneOf(subject: string): number {
  let hash = 0;
  for (let i = 0; i < subject.length; i++) hash = Math.imul(hash, 31) + subject.charCodeAt(i) | 0;
  return (hash >>> 0) % lanesCount;
}
