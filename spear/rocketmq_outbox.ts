/** What is on its way to other nodes: to each in order, one text after the other, and together what comes meanwhile. */
import { setImmediate } from "node:timers/promises";

export interface RocketmqOutboxOptions {
  /** Takes a JSON array of items to the node with this tag. Does not reject. */
  readonly send: (tag: string, text: string) => Promise<void>;
  /** More has come than is taken away: what waited for a node has been dropped. */
  readonly dropped: () => void;
}

interface Line {
  items: string[];
  size: number;
  readonly emptied: Promise<void>;
}

/** Sizes are in UTF-16 units; RocketMQ takes up to 4 MB a message. */
const batchSize = 250_000;
const batchItems = 1000;
const lineSize = 32_000_000;

export class RocketmqOutbox {
  readonly #options: RocketmqOutboxOptions;
  /** By tag: to whom something is on its way. */
  readonly #lines = new Map<string, Line>();

  constructor(options: RocketmqOutboxOptions) {
    this.#options = options;
  }

  /** @param item JSON */
  post(tag: string, item: string): void {
    const line = this.#lines.getOrInsertComputed(
      tag,
      () => ({ items: [], size: 0, emptied: this.#empty(tag) }),
    );
    line.items.push(item);
    line.size += item.length;
    if (line.size <= lineSize) return;
    line.items = [];
    line.size = 0;
    this.#options.dropped();
  }

  /** Resolves when all is sent. */
  async emptied(): Promise<void> {
    while (this.#lines.size > 0) {
      await Promise.all(this.#lines.values().map(({ emptied }) => emptied));
    }
  }

  async #empty(tag: string): Promise<void> {
    while (true) {
      // What comes in this turn goes together too.
      await setImmediate();
      const line = this.#lines.get(tag);
      if (line === undefined || line.items.length === 0) break;
      await this.#options.send(tag, `[${takeBatch(line).join()}]`);
    }
    this.#lines.delete(tag);
  }
}

function takeBatch(line: Line): string[] {
  let [count, size] = [0, 0];
  for (const { length } of line.items) {
    if (count > 0 && (size + length > batchSize || count === batchItems)) break;
    count++;
    size += length;
  }
  line.size -= size;
  return line.items.splice(0, count);
}
