/**
 * The nodes that are present, stored in Redis. Each node has a tag, which is new after each start, and a slot: a small
 * number that it keeps as long as it sends heartbeats, and that another node gets some time later. RocketMQ keeps a
 * consumer group for ever. With one group per slot there are only as many groups as there were nodes at one time.
 */
import type { Redis } from "ioredis";
import type { Target } from "../wire.ts";
import beatScript from "./lua/beat.lua" with { type: "text" };
import postScript from "./lua/post.lua" with { type: "text" };

/** Used like a target, so that the whole membership is on one server. */
export const membershipTarget = "rocketmq" as Target;

const nodesKey = "gru:{rocketmq}:nodes";
const silentMs = 1500;
const slotMs = 30_000;
/**
 * A request for messages that is under way when a node stops its heartbeats must have ended before another node gets
 * the slot.
 */
const slotReserveMs = 10_000;
const mailboxMs = 60_000;
const mailboxTexts = 1000;
const mailboxBytes = 16_000_000;

export interface Beat {
  /** The slot or the tag has changed. */
  readonly changed: boolean;
  /** A node may have stored messages and not sent them: it stopped its heartbeats, or reported this itself. */
  readonly faulty: boolean;
  /** Tags that were present at the last heartbeat and are not any more. */
  readonly gone: readonly string[];
  /** Texts that could not be sent through RocketMQ. */
  readonly mailbox: readonly string[];
}

export interface RocketmqMembershipOptions {
  /** Messages reach this node through RocketMQ now. */
  readonly direct: () => boolean;
}

export class RocketmqMembership {
  readonly #direct: () => boolean;
  #tag = newTag();
  #slot = -1;
  #heldAt = -Infinity;
  #faults: number | undefined;
  #toReport = 0;
  #reported = 0;
  #others = new Set<string>();
  #overRedis: readonly string[] = [];

  constructor({ direct }: RocketmqMembershipOptions) {
    this.#direct = direct;
  }

  get tag(): string {
    return this.#tag;
  }

  /** The tags of the others that are to get their messages over Redis now. */
  get overRedis(): readonly string[] {
    return this.#overRedis;
  }

  /** How often this node has reported a fault. */
  get reported(): number {
    return this.#reported;
  }

  get slot(): number {
    return this.#slot;
  }

  /** The slot certainly belongs to this node. */
  get holdsSlot(): boolean {
    return this.#slot >= 0 && performance.now() - this.#heldAt < slotMs - slotReserveMs;
  }

  /**
   * If this node dies now, the others will notice: its last heartbeat is recent, and they do not count it as silent
   * yet.
   */
  get watched(): boolean {
    return performance.now() - this.#heldAt < silentMs / 2;
  }

  /** Notifies all nodes with the next heartbeat that messages may have been stored and not sent. */
  reportFault(): void {
    this.#reported++;
    this.#toReport++;
  }

  /** Call it several times within {@linkcode silentMs}. Rejects when Redis does. */
  async beat(redis: Redis): Promise<Beat> {
    const before = `${this.#slot} ${this.#tag}`;
    const sentAt = performance.now();
    let answer = await this.#call(redis, this.#slot);
    const mailbox = [...answer.mailbox];
    if (answer.slot < 0) {
      // The others have removed this node, and send nothing to the old tag any more.
      this.#tag = newTag();
      answer = await this.#call(redis, -1);
    }
    this.#slot = answer.slot;
    this.#heldAt = sentAt;

    const faulty = this.#faults !== undefined && this.#faults !== answer.faults;
    this.#faults = answer.faults;
    const others = new Set(answer.tags);
    const gone = [...this.#others.difference(others)];
    this.#others = others;
    this.#overRedis = answer.overRedis;
    return { changed: before !== `${this.#slot} ${this.#tag}`, faulty, gone, mailbox };
  }

  /**
   * Puts a text into a node's fallback mailbox, for its next heartbeat.
   * @returns false when the mailbox is full: nothing in it will be read
   */
  async post(redis: Redis, tag: string, text: string): Promise<boolean> {
    const key = mailboxKey(tag);
    const args = [text, mailboxBytes, mailboxTexts, mailboxMs] as const;
    return await redis.eval(postScript, 2, key, sizeKey(tag), ...args) === 1;
  }

  async leave(redis: Redis): Promise<void> {
    await this.#call(redis, "leave");
    this.#slot = -1;
  }

  async #call(redis: Redis, slot: number | "leave") {
    const reported = this.#toReport;
    const [itsSlot, faults, tags, mailbox, overRedis] = await redis.eval(
      ...[beatScript, 3, nodesKey, mailboxKey(this.#tag), sizeKey(this.#tag)],
      ...[this.#tag, slot, silentMs, slotMs, reported, this.#direct() ? 1 : 0],
    ) as [number, number, string[], string[], string[]];
    this.#toReport -= reported;
    return { slot: itsSlot, faults, tags, mailbox, overRedis };
  }
}

function mailboxKey(tag: string): string {
  return `gru:{rocketmq}:mail:${tag}`;
}

function sizeKey(tag: string): string {
  return `${mailboxKey(tag)}:bytes`;
}

/** It begins with m, by which others know that this node also gets messages over its channel in Redis. */
function newTag(): string {
  return `m${crypto.randomUUID().replaceAll("-", "").slice(0, 16)}`;
}
