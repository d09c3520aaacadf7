/** Reports to stat, about once a second, which users are connected to this node. */
import type { Logger } from "@gru/shared/log";
import { pause } from "@gru/shared/pause";
import type { RpcClient } from "@gru/shared/rpc/client";
import { RpcError } from "@gru/shared/rpc/contract";
import type { Load, Report, StatContract } from "@gru/stat/contract";
import { type Change, partsOf, type Roster } from "./roster.ts";

export interface ReporterOptions {
  readonly node: string;
  readonly stat: RpcClient<StatContract>;
  readonly roster: Roster;
  /**
   * All users of this node. Read in steps while users join and leave: such changes are in `roster` too, and are
   * reported next.
   */
  readonly everyone: () => Iterable<Change>;
  readonly connections: () => number;
  readonly load: () => Load;
  readonly reportMs: number;
  /**
   * Asks the registry whether the node's name belongs to this process; undefined: the registry cannot be reached.
   * Called before the first report, and when stat rejects one. While another process has the name, nothing is reported.
   */
  readonly holdsName: () => Promise<boolean | undefined>;
  /** stat no longer has what it had: its store may have lost its data. */
  readonly onForgotten?: () => void;
  readonly log: Logger;
}

/** stat forgets a node that has not reported for this many periods. */
const periodsToLive = 10;
/** The most users and group members in one part of a report: about 300 KB. */
const namesPerPart = 20_000;
const partsUnderWay = 4;

export function startReporter(options: ReporterOptions): AsyncDisposable {
  const { node, stat, roster, reportMs, log } = options;
  const session = crypto.randomUUID();
  const ttlMs = reportMs * periodsToLive;
  const stopped = new AbortController();
  const { signal } = stopped;
  /**
   * `held`: this session may report for the node. A stat of an older version knows no claims and accepts reports
   * without one.
   */
  let claim: "none" | "held" | "unknown to stat" = "none";
  let version = 0;
  let full = true;
  /** Changes that may not have arrived are sent again unchanged: stat knows their version. */
  let unconfirmed: Change[] | undefined;
  let failing = false;

  /** @returns false: another process has the name. */
  async function claimNode(): Promise<boolean> {
    const holds = await options.holdsName();
    if (holds === false) return false;
    try {
      // While the registry cannot answer, a free place may be claimed, but not one that is taken.
      const { claimed } = await stat.any.claim(
        { node, session, takeOver: holds === true },
        { signal },
      );
      if (claimed) claim = "held";
      return claimed;
    } catch (error) {
      if (!(error instanceof RpcError) || error.code !== "not_found") throw error;
      claim = "unknown to stat";
      return true;
    }
  }

  async function send(part: number, changes: readonly Change[], more: boolean) {
    const users = changes.filter(({ groupId }) => groupId === undefined);
    const groups = changes.flatMap(({ groupId, joined, left }) =>
      groupId === undefined ? [] : [{ groupId, joined: [...joined], left: [...left] }]
    );
    const report: Report = {
      ...{ node, session, version, full, groups },
      connections: options.connections(),
      load: options.load(),
      users: {
        joined: users.flatMap(({ joined }) => joined),
        left: users.flatMap(({ left }) => left),
      },
      ...(claim === "held" ? { claimed: true } : {}),
      ...(part === 0 ? {} : { part }),
      ...(more ? { more } : {}),
    };
    return await stat.any.report({ report, ttlMs }, { signal });
  }

  /** Rejects when a part did not arrive. */
  async function sendParts(changes: Iterable<Change>) {
    const underWay = new Set<Promise<void>>();
    let [resync, refused] = [false, false];
    const sendPart = async (part: number, batch: readonly Change[], more: boolean) => {
      const answer = await send(part, batch, more);
      resync ||= answer.resync;
      refused ||= answer.refused ?? false;
    };
    try {
      let part = 0;
      for (const { batch, more } of partsOf(changes, namesPerPart)) {
        if (resync) break;
        const isAlone = part === 0 || !more;
        if (isAlone) await Promise.all(underWay);
        const sending = sendPart(part++, batch, more).finally(() => underWay.delete(sending));
        underWay.add(sending);
        if (isAlone || underWay.size >= partsUnderWay) await Promise.race(underWay);
      }
    } finally {
      await Promise.allSettled(underWay);
    }
    return { resync, refused };
  }

  /** @returns true when stat lacks something that must be sent at once */
  async function report(): Promise<boolean> {
    const claims = claim === "none";
    if (claims && !await claimNode()) return false;
    if (unconfirmed === undefined) {
      const changes = roster.take();
      version++;
      unconfirmed = full ? [] : changes;
    }
    const { resync, refused } = await sendParts(full ? options.everyone() : unconfirmed);
    unconfirmed = undefined;
    if (resync && !full) options.onForgotten?.();
    full = resync;
    if (refused) claim = "none";
    // A store that lost its data has lost the claim too. If a new claim is lost again, another node has it.
    return full && !(refused && claims);
  }

  async function attempt(): Promise<boolean> {
    try {
      const atOnce = await report();
      if (failing) log.info("stat accepts the reports of {node} again", { node });
      failing = false;
      return atOnce;
    } catch (error) {
      // A full report is built again, and a report that stat will never accept is not repeated.
      if (full || (error instanceof RpcError && error.code === "invalid_argument")) {
        full = true;
        unconfirmed = undefined;
      }
      if (!failing && !signal.aborted) {
        log.warn("a report of {node} did not reach stat, will retry: {error}", {
          node,
          error,
        });
      }
      failing = true;
      return false;
    }
  }

  async function run(): Promise<void> {
    while (!signal.aborted) {
      const began = performance.now();
      const atOnce = await attempt();
      const pauseMs = atOnce ? 0 : Math.max(0, reportMs - (performance.now() - began));
      await pause(pauseMs, signal);
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
