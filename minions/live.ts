/** What the pages show of the cluster, once a second, for any number of pages: made once, and only while one looks. */
import { setTimeout as pause } from "node:timers/promises";
import type { Cluster } from "./cluster.ts";
import type { Snapshot, StatSnapshot } from "./snapshot.ts";

export interface LiveOptions {
  readonly cluster: Cluster;
  /** Of stat's HTTP API. */
  readonly ask: <T>(path: string) => Promise<T>;
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
    const known = { at: Date.now(), stale, instances, events: cluster.events.slice(0, 50) };
    let snapshot: Snapshot;
    try {
      const [{ nodes }, totals] = await Promise.all([
        ask<Pick<StatSnapshot, "nodes">>("/nodes"),
        ask<StatSnapshot["totals"]>("/totals"),
      ]);
      snapshot = { ...known, nodes, totals };
    } catch (error) {
      snapshot = { ...known, problem: (error as Error).message };
    }
    return JSON.stringify(snapshot);
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
