/**
 * Who among the nodes is there, kept in Redis. Each node has a tag, new whenever it begins anew, and a lane: a small
 * number that is its own while it gives signs of life and another's some time after. RocketMQ keeps a consumer group
 * for ever; a group per lane makes that as many as there were nodes at one time, not as many as there ever were.
 */
import type { Redis } from "ioredis";
import type { Target } from "./wire.ts";
import beatScript from "./lua/rocketmq_beat.lua" with { type: "text" };

/** As if it were a target: all of the roll is on one server. */
export const rollTarget = "rocketmq" as Target;

const nodesKey = "gru:{rocketmq}:nodes";
const silentMs = 1500;
const laneMs = 30_000;
/** A request for messages that is under way when a node falls silent must be over before its lane is another's. */
const laneReserveMs = 10_000;
const mailMs = 60_000;
const mailLimit = 1000;

export interface Beat {
  /** The lane or the tag is not what it was before. */
  readonly moved: boolean;
  /** Somebody may have kept messages and not sent them out: a node that fell silent, or one that says so. */
  readonly faulty: boolean;
  /** Tags that were there at the last beat and are there no more. */
  readonly gone: readonly string[];
  /** What could not come through RocketMQ. */
  readonly mail: readonly string[];
}

export class RocketmqRoll {
  #tag = newTag();
  #lane = -1;
  #heldAt = -Infinity;
  #faults: number | undefined;
  #toReport = 0;
  #others = new Set<string>();

  get tag(): string {
    return this.#tag;
  }

  get lane(): number {
    return this.#lane;
  }

  /** The lane is surely nobody else's yet. */
  get holdsLane(): boolean {
    return this.#lane >= 0 && performance.now() - this.#heldAt < laneMs - laneReserveMs;
  }

  /** If this node dies now, the others will notice: it has given a sign of life, and they do not count it as silent yet. */
  get watched(): boolean {
    return performance.now() - this.#heldAt < silentMs / 2;
  }

  /** To be told to all nodes with the next beat: messages have been kept and maybe not sent out. */
  reportFault(): void {
    this.#toReport++;
  }

  /** To be called several times within {@linkcode silentMs}. Rejects when Redis does. */
  async beat(redis: Redis): Promise<Beat> {
    const before = `${this.#lane} ${this.#tag}`;
    const sentAt = performance.now();
    let answer = await this.#call(redis, this.#lane);
    const mail = [...answer.mail];
    if (answer.lane < 0) {
      // Others have counted this node out and send nothing to the old tag any more.
      this.#tag = newTag();
      answer = await this.#call(redis, -1);
    }
    this.#lane = answer.lane;
    this.#heldAt = sentAt;

    const faulty = this.#faults !== undefined && this.#faults !== answer.faults;
    this.#faults = answer.faults;
    const others = new Set(answer.tags);
    const gone = [...this.#others.difference(others)];
    this.#others = others;
    return { moved: before !== `${this.#lane} ${this.#tag}`, faulty, gone, mail };
  }

  /** Leaves a text for a node with its next beat. @returns false when its box is full: nothing in it will be read. */
  async post(redis: Redis, tag: string, text: string): Promise<boolean> {
    const key = mailKey(tag);
    const length = await redis.rpush(key, text);
    await (length > mailLimit ? redis.del(key) : redis.pexpire(key, mailMs));
    return length <= mailLimit;
  }

  async leave(redis: Redis): Promise<void> {
    await this.#call(redis, "leave");
    this.#lane = -1;
  }

  async #call(redis: Redis, lane: number | "leave") {
    const reported = this.#toReport;
    const [itsLane, faults, tags, mail] = await redis.eval(
      ...[beatScript, 2, nodesKey, mailKey(this.#tag)],
      ...[this.#tag, lane, silentMs, laneMs, reported],
    ) as [number, number, string[], string[]];
    this.#toReport -= reported;
    return { lane: itsLane, faults, tags, mail };
  }
}

function mailKey(tag: string): string {
  return `gru:{rocketmq}:mail:${tag}`;
}

function newTag(): string {
  return crypto.randomUUID().replaceAll("-", "").slice(0, 16);
}
