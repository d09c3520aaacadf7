/**
 * Texts on their way to other nodes: for each node in order, one after the other. What is added in the meantime is sent
 * together.
 */
import { setImmediate } from "node:timers/promises";

export interface RocketmqOutboxOptions {
  /** Sends a JSON array of items to the node with this tag. Must not reject. */
  readonly send: (tag: string, text: string) => Promise<void>;
  /** More is added than can be sent: the items that waited for a node have been dropped. */
  readonly dropped: () => void;
}

interface Line {
  items: string[];
  size: number;
  readonly emptied: Promise<void>;
}

/** Sizes are in UTF-16 units; RocketMQ accepts up to 4 MB for a message. */
const batchSize = 250_000;
const batchItems = 1000;
const lineSize = 32_000_000;

export class RocketmqOutbox {
  readonly #options: RocketmqOutboxOptions;
  /** The nodes that something is on its way to, by tag. */
  readonly #lines = new Map<string, Line>();

  constructor(options: RocketmqOutboxOptions) {
    this.#options = options;
  }

  /** UTF-16 units that wait. */
  get waiting(): number {
    return this.#lines.values().reduce((sum, { size }) => sum + size, 0);
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

  /** Resolves when everything is sent. */
  async emptied(): Promise<void> {
    while (this.#lines.size > 0) {
      await Promise.all(this.#lines.values().map(({ emptied }) => emptied));
    }
  }

  async #empty(tag: string): Promise<void> {
    while (true) {
      // Items added in the same turn are sent together.
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
