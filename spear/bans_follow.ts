/** Keeps this node's bans those of the whole cluster: also the ones that were made while it was out of reach. */
import { setTimeout as pause } from "node:timers/promises";
import type { Logger } from "@gru/shared/log";
import type { RpcClient } from "@gru/shared/rpc/client";
import type { StatContract } from "@gru/stat/contract";
import type { Bans } from "./bans.ts";
import type { Ban } from "./contract.ts";
import type { Hub } from "./hub.ts";
import type { Session } from "./session.ts";
import { groupTarget, userTarget } from "./wire.ts";

export interface FollowBansOptions {
  readonly stat: RpcClient<StatContract>;
  readonly bans: Bans;
  readonly hub: Hub<Session>;
  readonly periodMs: number;
  readonly log: Logger;
}

export function followBans(options: FollowBansOptions): AsyncDisposable {
  const { stat, bans, hub, periodMs, log } = options;
  const stopped = new AbortController();
  const { signal } = stopped;

  async function follow(): Promise<void> {
    while (!signal.aborted) {
      try {
        const askedAt = performance.now();
        const { bans: all } = await stat.any.bans({}, { signal });
        bans.replace(all, askedAt);
        for (const ban of all) enforce(ban, hub);
      } catch (error) {
        // That stat is away, the reports say.
        log.debug("bans: {error}", { error });
      }
      await pause(periodMs, undefined, { signal }).catch(() => {});
    }
  }

  const following = follow();
  return {
    [Symbol.asyncDispose]: async () => {
      stopped.abort();
      await following;
    },
  };
}

function enforce({ kind, id, reason, until }: Ban, hub: Hub<Session>): void {
  if (kind === "user") {
    for (const session of [...hub.members(userTarget(id))]) session.kick({ reason, until });
  } else {
    for (const session of [...hub.members(groupTarget(id))]) {
      session.kickFromGroup(id, { reason, until });
    }
  }
}
