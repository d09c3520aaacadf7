/**
 * Keeps this node's bans and mutes those of the whole cluster: also the ones that were made while it was out of reach. And brings
 * them back to a stat whose store has lost them.
 */
import type { FollowedClock } from "@gru/shared/clock";
import type { Logger } from "@gru/shared/log";
import { repeat, type Repeated } from "@gru/shared/repeat";
import type { RpcClient } from "@gru/shared/rpc/client";
import { RpcError } from "@gru/shared/rpc/contract";
import { restoredAtOnce, type StatContract } from "@gru/stat/contract";
import type { Bans } from "./bans.ts";
import type { BanRecord, MuteRecord } from "../contract.ts";
import type { Hub } from "../hub/hub.ts";
import type { Mutes } from "./mutes.ts";
import type { Session } from "./session.ts";
import { groupTarget, userTarget } from "../wire.ts";

export interface FollowOptions {
  readonly stat: RpcClient<StatContract>;
  readonly bans: Bans;
  readonly mutes: Mutes;
  /** Of stat's store; learns from its answers. */
  readonly clock: FollowedClock;
  readonly hub: Hub<Session>;
  readonly periodMs: number;
  readonly log: Logger;
}

/** `hurry()` it when the store may have lost its data. */
export function followRestrictions(options: FollowOptions): Repeated {
  const { stat, bans, mutes, clock, hub, periodMs, log } = options;

  /** @returns the bans that the store has lost */
  async function readBans(signal: AbortSignal): Promise<readonly BanRecord[]> {
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

  /** @returns the mutes that the store has lost */
  async function readMutes(signal: AbortSignal): Promise<readonly MuteRecord[]> {
    const askedAt = performance.now();
    try {
      const { records } = await stat.any.muteRecords({}, { signal });
      return mutes.merge(records, askedAt);
    } catch (error) {
      // A stat of before there were mutes.
      if (!(error instanceof RpcError) || error.code !== "not_found") throw error;
      return [];
    }
  }

  async function bringBack<R>(
    what: "bans" | "mutes",
    lost: readonly R[],
    restore: (records: R[]) => Promise<unknown>,
  ): Promise<void> {
    if (lost.length === 0) return;
    for (let at = 0; at < lost.length; at += restoredAtOnce) {
      await restore(lost.slice(at, at + restoredAtOnce));
    }
    log.info("stat lacked {count} {what} that this node remembers, and has them again", {
      ...{ count: lost.length, what },
    });
  }

  return repeat(async (signal) => {
    try {
      const lost = await readBans(signal);
      for (const ban of bans.holding()) enforce(ban, hub);
      await bringBack("bans", lost, (records) => stat.any.restoreBans({ records }, { signal }));
      await bringBack(
        "mutes",
        await readMutes(signal),
        (records) => stat.any.restoreMutes({ records }, { signal }),
      );
    } catch (error) {
      // That stat is away, the reports say.
      log.debug("bans and mutes: {error}", { error });
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
