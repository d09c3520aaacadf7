/** What the pages show of the cluster, once a second, for any number of pages: made once, and only while one looks. */
import { setTimeout as pause } from "node:timers/promises";
import type { Cluster } from "./cluster.ts";

export interface LiveOptions {
  readonly cluster: Cluster;
  /** JSON of stat's HTTP API. */
  readonly ask: (path: string) => Promise<unknown>;
  readonly closing: AbortSignal;
}

const periodMs = 1000;

export class Live {
  readonly #options: LiveOptions;
  #snapshot: Promise<string> | undefined;

  constructor(options: LiveOptions) {
    this.#options = options;
  }

  /** The next snapshot; the same one for all who wait for it. */
  #next(): Promise<string> {
    return this.#snapshot ??= pause(periodMs, undefined, { signal: this.#options.closing })
      .then(() => {
        this.#snapshot = undefined;
        return this.#take();
      });
  }

  async #take(): Promise<string> {
    const { cluster, ask } = this.#options;
    const { stale, instances } = cluster.view;
    const shown = { at: Date.now(), stale, instances, events: cluster.events.slice(0, 50) };
    try {
      const [nodes, totals] = await Promise.all([ask("/nodes"), ask("/totals")]);
      return JSON.stringify({ ...shown, ...nodes as object, totals });
    } catch (error) {
      return JSON.stringify({ ...shown, problem: (error as Error).message });
    }
  }

  /** A page that reads slowly is given fewer snapshots: the next one is made when it has taken the one before. */
  stream(): Response {
    const { closing } = this.#options;
    const encoder = new TextEncoder();
    let gone = false;
    let first = true;
    const body = new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        try {
          const text = first ? await this.#take() : await this.#next();
          first = false;
          if (!gone) controller.enqueue(encoder.encode(`data: ${text}\n\n`));
        } catch (error) {
          if (!closing.aborted) throw error;
          if (!gone) controller.close();
        }
      },
      cancel: () => void (gone = true),
    });
    return new Response(body, {
      headers: { "content-type": "text/event-stream", "cache-control": "no-store" },
    });
  }
}
