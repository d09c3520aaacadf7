/**
 * Keeps this node's bans those of the whole cluster: also the ones that were made while it was out of reach. And brings them
 * back to a stat whose store has lost them.
 */
import type { FollowedClock } from "@gru/shared/clock";
import type { Logger } from "@gru/shared/log";
import { repeat, type Repeated } from "@gru/shared/repeat";
import type { RpcClient } from "@gru/shared/rpc/client";
import { RpcError } from "@gru/shared/rpc/contract";
import { restoredAtOnce, type StatContract } from "@gru/stat/contract";
import type { Bans } from "./bans.ts";
import type { BanRecord } from "../contract.ts";
import type { Hub } from "../hub/hub.ts";
import type { Session } from "./session.ts";
import { groupTarget, userTarget } from "../wire.ts";

export interface FollowBansOptions {
  readonly stat: RpcClient<StatContract>;
  readonly bans: Bans;
  /** Of stat's store; learns from its answers. */
  readonly clock: FollowedClock;
  readonly hub: Hub<Session>;
  readonly periodMs: number;
  readonly log: Logger;
}

/** `hurry()` it when the store may have lost its data. */
export function followBans(options: FollowBansOptions): Repeated {
  const { stat, bans, clock, hub, periodMs, log } = options;

  /** @returns what the store has lost */
  async function read(signal: AbortSignal): Promise<readonly BanRecord[]> {
    const askedAt = performance.now();
    try {
      const { records, now } = await stat.any.banRecords({}, { signal });
      clock.learn(now, askedAt);
      return bans.merge(records, askedAt);
    } catch (error) {
      // A stat of before there were versions.
      if (!(error instanceof RpcError) || error.code !== "not_found") throw error;
      const answer = await stat.any.bans({}, { signal });
      const records = answer.bans.map((ban) => ({ ...ban, version: 0, keptUntil: ban.until }));
      return bans.merge(records, askedAt);
    }
  }

  async function bringBack(lost: readonly BanRecord[], signal: AbortSignal): Promise<void> {
    if (lost.length === 0) return;
    for (let at = 0; at < lost.length; at += restoredAtOnce) {
      const records = lost.slice(at, at + restoredAtOnce);
      await stat.any.restoreBans({ records }, { signal });
    }
    log.info("stat lacked {count} bans that this node remembers, and has them again", {
      count: lost.length,
    });
  }

  return repeat(async (signal) => {
    try {
      const lost = await read(signal);
      for (const ban of bans.holding()) enforce(ban, hub);
      await bringBack(lost, signal);
    } catch (error) {
      // That stat is away, the reports say.
      log.debug("bans: {error}", { error });
    }
    return periodMs;
  });
}

function enforce({ kind, id, reason, until }: BanRecord, hub: Hub<Session>): void {
  if (kind === "user") {
    for (const session of [...hub.members(userTarget(id))]) session.kick({ reason, until });
  } else {
    for (const session of [...hub.members(groupTarget(id))]) {
      session.kickFromGroup(id, { reason, until });
    }
  }
}
