/** Reads what is kept of a target, page by page. */
import type { Broker, Entry, HistoryPage } from "../broker/broker.ts";
import { Frame } from "../packets.ts";
import { encodePacket, type Position, type Target } from "../wire.ts";

/** A page as members are sent it. */
export interface FramePage extends Pick<HistoryPage, "head" | "next" | "complete"> {
  readonly frames: readonly Frame[];
}

/**
 * Many who ask for the same while it is being read get one answer, encoded once. The answer holds all that this node had
 * when it was asked for: those who ask when the node has come further get another.
 */
export class SharedReads {
  readonly #underWay = new Map<string, Promise<FramePage>>();

  /** @param now where the target is on this node */
  read(
    broker: Pick<Broker, "history">,
    target: Target,
    after: Position,
    { bytes, now }: { readonly bytes: number; readonly now: Position },
  ): Promise<FramePage> {
    const key = JSON.stringify([target, after.epoch, after.seq, bytes, now.epoch, now.seq]);
    return this.#underWay.getOrInsertComputed(
      key,
      () => readFrames(broker, target, after, bytes).finally(() => this.#underWay.delete(key)),
    );
  }
}

async function readFrames(
  broker: Pick<Broker, "history">,
  target: Target,
  after: Position,
  bytes: number,
): Promise<FramePage> {
  const { head, entries, next, complete } = await broker.history(target, after, bytes);
  return { head, next, complete, frames: entries.map((entry) => frameOf(target, entry)) };
}

export function frameOf(target: Target, { epoch, seq, body }: Entry): Frame {
  return new Frame(target, epoch, seq, encodePacket(body, epoch, seq));
}

export interface Newest {
  readonly head: Position;
  /** Of the head's epoch, ascending. */
  readonly entries: readonly Entry[];
  /** Older ones are kept. */
  readonly more: boolean;
}

/** In UTF-16 units. What is asked for at once is answered in one piece, so it is bounded. */
const mostLength = 4_000_000;

/** The newest messages of the present epoch before seq `before`: at most `limit`, and fewer where they are large. */
export async function readNewest(
  broker: Pick<Broker, "history">,
  target: Target,
  { limit, before }: { readonly limit: number; readonly before: number },
): Promise<Newest> {
  let page: HistoryPage = await broker.history(target, { epoch: "", seq: 0 });
  const { head } = page;
  const from = Math.min(before - 1, head.seq) - limit;
  // One more than wanted: whether there are older ones. The first page may be all there is.
  const isBefore = page.next === undefined || from <= 1;
  if (!isBefore) page = await broker.history(target, { epoch: head.epoch, seq: from - 1 });
  const newest: Entry[] = [];
  let [length, more] = [0, false];
  for (;;) {
    for (const entry of page.entries) {
      if (entry.epoch !== head.epoch || entry.seq >= before || entry.seq > head.seq) continue;
      newest.push(entry);
      length += entry.body.length;
      while (newest.length > limit || (length > mostLength && newest.length > 1)) {
        length -= newest.shift()?.body.length ?? 0;
        more = true;
      }
    }
    const { next } = page;
    if (next === undefined || (next.epoch === head.epoch && next.seq >= before - 1)) break;
    page = await broker.history(target, next);
  }
  return { head, entries: newest, more };
}
