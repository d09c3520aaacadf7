/** Tells stat, about once a second, who is on this node. */
import { setTimeout as pause } from "node:timers/promises";
import type { Logger } from "@gru/shared/log";
import type { RpcClient } from "@gru/shared/rpc/client";
import type { Load, Report, StatContract } from "@gru/stat/contract";
import type { Delta, Roster } from "./roster.ts";

export interface ReporterOptions {
  readonly node: string;
  readonly stat: RpcClient<StatContract>;
  readonly roster: Roster;
  /** Everyone who is here, as one delta from nothing; what `roster` still holds is part of it. */
  readonly everyone: () => Delta;
  readonly connections: () => number;
  readonly load: () => Load;
  readonly reportMs: number;
  readonly log: Logger;
}

/** A node that has not reported for so many periods is forgotten. */
const periodsToLive = 10;

export function startReporter(options: ReporterOptions): AsyncDisposable {
  const { node, stat, roster, reportMs, log } = options;
  const session = crypto.randomUUID();
  const stopped = new AbortController();
  let version = 0;
  let full = true;
  /** A report whose arrival is not certain goes out again as it is: stat knows its version. */
  let unconfirmed: Report | undefined;
  let failing = false;

  function nextReport(): Report {
    const changes = roster.take();
    const report = {
      node,
      session,
      version: ++version,
      full,
      connections: options.connections(),
      load: options.load(),
      ...(full ? options.everyone() : changes),
    };
    full = false;
    return { ...report, groups: [...report.groups] };
  }

  async function report(): Promise<void> {
    unconfirmed ??= nextReport();
    try {
      const { resync } = await stat.any.report(
        { report: unconfirmed, ttlMs: reportMs * periodsToLive },
        { signal: stopped.signal },
      );
      unconfirmed = undefined;
      full = resync;
      if (failing) log.info("stat hears {node} again", { node });
      failing = false;
    } catch (error) {
      if (!failing && !stopped.signal.aborted) {
        log.warn("stat does not hear {node}: {error}", { node, error });
      }
      failing = true;
    }
  }

  async function run(): Promise<void> {
    while (!stopped.signal.aborted) {
      const began = performance.now();
      await report();
      // What stat lacks it gets at once, the rest in its period.
      const pauseMs = full && !failing ? 0 : Math.max(0, reportMs - (performance.now() - began));
      await pause(pauseMs, undefined, { signal: stopped.signal }).catch(() => {});
    }
  }

  const running = run();
  return {
    [Symbol.asyncDispose]: async () => {
      stopped.abort();
      await running;
    },
  };
}
