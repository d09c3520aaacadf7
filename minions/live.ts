/** The snapshot of the cluster for all pages, once a second: made once for all, and only while a page is open. */
import { pause } from "@gru/shared/pause";
import { redact } from "@gru/shared/redact";
import type { Cluster } from "./cluster.ts";
import type { Away, Problem, Snapshot, StatSnapshot } from "./snapshot.ts";
import { StatRefused, Unreachable } from "./stat_calls.ts";

export interface LiveOptions {
  readonly cluster: Cluster;
  /** Reads from stat's HTTP API. */
  readonly ask: <T>(path: string) => Promise<T>;
  readonly closing: AbortSignal;
  /** Default: this machine's clock. */
  readonly now?: (() => number) | undefined;
  /** Told how many pages are open, whenever that changes. */
  readonly onPages?: ((open: number) => void) | undefined;
}

const periodMs = 1000;
const eventsShown = 200;

export class Live {
  readonly #options: LiveOptions;
  readonly #since = new Map<Away, number>();
  #known: Snapshot["known"];
  #pages = 0;
  #snapshot: Promise<string> | undefined;

  constructor(options: LiveOptions) {
    this.#options = options;
  }

  /** The next snapshot; the same one for all that wait for it. */
  #next(): Promise<string> {
    return this.#snapshot ??= pause(periodMs, this.#options.closing)
      .then(() => {
        this.#options.closing.throwIfAborted();
        this.#snapshot = undefined;
        return this.#take();
      });
  }

  async #take(): Promise<string> {
    const { cluster, ask, now = Date.now } = this.#options;
    const { stale, instances } = cluster.view;
    const at = now();
    const problems: Problem[] = [];
    if (stale) problems.push(this.#problem("zookeeper", at, ""));
    try {
      const [{ nodes }, totals] = await Promise.all([
        ask<Pick<StatSnapshot, "nodes">>("/nodes"),
        ask<StatSnapshot["totals"]>("/totals"),
      ]);
      this.#known = { at, nodes, totals };
      for (const { node, connections } of nodes) cluster.connections.set(node, connections);
    } catch (error) {
      problems.push(this.#problem(awayOf(error), at, redact((error as Error).message)));
    }
    for (const away of this.#since.keys()) {
      if (!problems.some((one) => one.away === away)) this.#since.delete(away);
    }
    const snapshot: Snapshot = {
      ...{ at, stale, instances, problems, events: cluster.events.slice(0, eventsShown) },
      ...(this.#known === undefined ? {} : { known: this.#known }),
    };
    return JSON.stringify(snapshot);
  }

  #changePages(by: 1 | -1): void {
    this.#pages += by;
    this.#options.onPages?.(this.#pages);
  }

  #problem(away: Away, at: number, detail: string): Problem {
    return { away, since: this.#since.getOrInsert(away, at), detail };
  }

  /** A slow page gets fewer snapshots: the next one is made after it has read the previous one. */
  stream(): Response {
    const { closing } = this.#options;
    const encoder = new TextEncoder();
    let gone = false;
    this.#changePages(1);
    const leave = () => {
      if (!gone) this.#changePages(-1);
      gone = true;
    };
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
          leave();
        }
      },
      cancel: leave,
    });
    return new Response(body, {
      headers: { "content-type": "text/event-stream", "cache-control": "no-store" },
    });
  }
}

function awayOf(error: unknown): Away {
  if (error instanceof StatRefused) {
    return error.message.includes("no report of") ? "reports" : "redis";
  }
  return error instanceof Unreachable && error.message.includes("GRU_STAT_API_KEY")
    ? "key"
    : "stat";
}
