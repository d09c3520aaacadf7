/** stat's way to Redis: its scripts, run at whichever server has the keys, and failing within a bound. */
import type { Buffer } from "node:buffer";
import type { Logger } from "@gru/shared/log";
import { pause } from "@gru/shared/pause";
import { parseRedisAddress } from "@gru/shared/redis/address";
import { failureOf } from "@gru/shared/redis/link";
import { RedisScripts } from "@gru/shared/redis/scripts";
import { openTopology, type RedisTopology } from "@gru/shared/redis/topology";
import { RpcError } from "@gru/shared/rpc/contract";
import { inTime } from "@gru/shared/within";
import type { Redis } from "ioredis";
import { silenceMs } from "./store.ts";
import auditScript from "./lua/audit.lua" with { type: "text" };
import auditsScript from "./lua/audits.lua" with { type: "text" };
import banScript from "./lua/ban.lua" with { type: "text" };
import bansScript from "./lua/bans.lua" with { type: "text" };
import claimScript from "./lua/claim.lua" with { type: "text" };
import countsScript from "./lua/counts.lua" with { type: "text" };
import activeScript from "./lua/active.lua" with { type: "text" };
import tellMessagesScript from "./lua/tell_messages.lua" with { type: "text" };
import unreadScript from "./lua/unread.lua" with { type: "text" };
import fenceScript from "./lua/fence.lua" with { type: "text" };
import hookLeaseScript from "./lua/hook_lease.lua" with { type: "text" };
import hookNewestScript from "./lua/hook_newest.lua" with { type: "text" };
import hookReadScript from "./lua/hook_read.lua" with { type: "text" };
import hookReleaseScript from "./lua/hook_release.lua" with { type: "text" };
import hookReplayScript from "./lua/hook_replay.lua" with { type: "text" };
import hookStateScript from "./lua/hook_state.lua" with { type: "text" };
import hookStatesScript from "./lua/hook_states.lua" with { type: "text" };
import hookTrimScript from "./lua/hook_trim.lua" with { type: "text" };
import hooksScript from "./lua/hooks.lua" with { type: "text" };
import resumeScript from "./lua/resume.lua" with { type: "text" };
import tellScript from "./lua/tell.lua" with { type: "text" };
import tellNodesScript from "./lua/tell_nodes.lua" with { type: "text" };
import kickScript from "./lua/kick.lua" with { type: "text" };
import kicksScript from "./lua/kicks.lua" with { type: "text" };
import nodesOfGroupScript from "./lua/nodes_of_group.lua" with { type: "text" };
import nodesOfUserScript from "./lua/nodes_of_user.lua" with { type: "text" };
import pageScript from "./lua/page.lua" with { type: "text" };
import reportScript from "./lua/report.lua" with { type: "text" };
import restoreBansScript from "./lua/restore_bans.lua" with { type: "text" };
import restoreKicksScript from "./lua/restore_kicks.lua" with { type: "text" };
import sampleScript from "./lua/sample.lua" with { type: "text" };
import samplesScript from "./lua/samples.lua" with { type: "text" };
import sweepScript from "./lua/sweep.lua" with { type: "text" };
import usersOfGroupScript from "./lua/users_of_group.lua" with { type: "text" };
import distinctScript from "./lua/distinct.lua" with { type: "text" };
import eraScript from "./lua/era.lua" with { type: "text" };
import presenceScript from "./lua/presence.lua" with { type: "text" };
import removeNodeScript from "./lua/remove_node.lua" with { type: "text" };
import reportedScript from "./lua/reported.lua" with { type: "text" };
import setOfGroupScript from "./lua/set_of_group.lua" with { type: "text" };
import settleScript from "./lua/settle.lua" with { type: "text" };

/** Each behind what it needs before it. */
const hooked = eraScript + hooksScript;
const fenced = hooked + fenceScript;
const reading = eraScript + reportedScript + presenceScript;
export const scriptTexts = {
  active: hooked + activeScript,
  audit: eraScript + auditScript,
  audits: eraScript + auditsScript,
  ban: hooked + banScript,
  bans: eraScript + bansScript,
  claim: eraScript + claimScript,
  counts: reading + countsScript,
  distinct: reading + distinctScript,
  hookLease: eraScript + hookLeaseScript,
  hookNewest: eraScript + hookNewestScript,
  hookRead: eraScript + hookReadScript,
  hookRelease: eraScript + hookReleaseScript,
  hookReplay: eraScript + hookReplayScript,
  hookState: fenced + hookStateScript,
  hookStates: eraScript + hookStatesScript,
  hookTrim: fenced + hookTrimScript,
  kick: hooked + kickScript,
  kicks: eraScript + kicksScript,
  nodesOfGroup: reading + nodesOfGroupScript,
  nodesOfUser: reading + nodesOfUserScript,
  page: reading + pageScript,
  removeNode: eraScript + removeNodeScript,
  report: hooked + reportScript,
  restoreBans: eraScript + restoreBansScript,
  restoreKicks: eraScript + restoreKicksScript,
  resume: fenced + resumeScript,
  sample: eraScript + sampleScript,
  samples: eraScript + samplesScript,
  setOfGroup: eraScript + setOfGroupScript,
  settle: eraScript + reportedScript + settleScript,
  sweep: hooked + sweepScript,
  tell: fenced + tellScript,
  tellMessages: fenced + tellMessagesScript,
  tellNodes: fenced + tellNodesScript,
  unread: fenced + unreadScript,
  usersOfGroup: reading + usersOfGroupScript,
};
export type Script = keyof typeof scriptTexts;

/** Of all keys where there are slots. */
const hashTag = "gru_stat";
const retryMs = 50;

export interface RedisCallsOptions {
  /** See `parseRedisAddress`. */
  readonly url: string;
  readonly password?: string | undefined;
  /** Names this stat to people who look at Redis. */
  readonly node: string;
  readonly log: Logger;
  /** The most that a call takes. */
  readonly timeoutMs: number;
  /** Told of each call and how many seconds it took. */
  readonly onCall?: ((call: Script, result: "ok" | "failed", seconds: number) => void) | undefined;
}

export class RedisCalls implements AsyncDisposable {
  /** Before each name in a key: "" where one server has all keys, which Gru's console reads there. */
  readonly tag: string;
  readonly #topology: RedisTopology;
  readonly #scripts = new RedisScripts(scriptTexts);
  readonly #options: RedisCallsOptions;
  /** Which start of which server a connection leads to. */
  readonly #runs = new WeakMap<Redis, string>();
  #onChange = () => {};

  /** @throws {TypeError} for an address that is none. */
  constructor(options: RedisCallsOptions) {
    const { url, password, node, log } = this.#options = options;
    const address = parseRedisAddress(url);
    this.tag = address.kind === "cluster" ? `{${hashTag}}` : "";
    this.#topology = openTopology(address, {
      ...{ password, log, name: `gru-${node}` },
      prepare: (redis) => this.#prepare(redis),
      onChange: () => this.#onChange(),
    });
  }

  get ready(): boolean {
    return this.#topology.serverOf(hashTag)?.commands.usable ?? false;
  }

  /** @throws {RpcError} `unavailable` when Redis cannot be used in time. */
  async opened(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onChange = () => this.ready && resolve();
    this.#onChange();
    const { timeoutMs, url } = this.#options;
    const late = () => new Error(this.#topology.trouble || `no answer within ${timeoutMs} ms`);
    const where = url.replace(/^rediss?:\/\//, "");
    await inTime(promise, timeoutMs, late)
      .catch((error) => Promise.reject(unavailable(`connect to ${where}`, error)));
  }

  /**
   * The outcome of what is not known to have failed before it began is unknown when this rejects.
   * @param action for people, as in "Redis: cannot …"
   * @throws {RpcError} `unavailable`
   */
  async call<T>(
    action: string,
    script: Script,
    keys: readonly string[],
    args: readonly (string | number | Buffer)[],
  ): Promise<T> {
    const { timeoutMs, onCall } = this.#options;
    const late = () => new Error(`no answer within ${timeoutMs} ms`);
    const startedAt = performance.now();
    const seconds = () => (performance.now() - startedAt) / 1000;
    try {
      const answer = await inTime(this.#try<T>(script, keys, args), timeoutMs, late);
      onCall?.(script, "ok", seconds());
      return answer;
    } catch (error) {
      onCall?.(script, "failed", seconds());
      throw unavailable(action, error);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#topology[Symbol.asyncDispose]();
  }

  /** At another server where this one is no longer the one to ask; what may have been done is not repeated. */
  async #try<T>(
    script: Script,
    keys: readonly string[],
    args: readonly (string | number | Buffer)[],
  ): Promise<T> {
    const { timeoutMs } = this.#options;
    const giveUpAt = performance.now() + timeoutMs;
    let cause: unknown;
    for (;;) {
      const server = this.#topology.serverOf(hashTag);
      const redis = server?.commands.redis;
      if (server !== undefined && redis !== undefined && server.commands.usable) {
        const allKeys = [`gru_stat_era${this.tag}`, ...keys];
        const run = this.#runs.get(redis) ?? "";
        try {
          return await this.#scripts.run<T>(redis, script, allKeys, [run, silenceMs, ...args]);
        } catch (error) {
          cause = error;
          const failure = failureOf(error);
          if (failure === "elsewhere") this.#topology.refresh(server);
          else if (failure === "unprepared") void server.commands.prepare();
          else throw error;
        }
      } else if (cause === undefined && redis?.status !== "ready") {
        throw new Error(this.#topology.trouble || "there is no connection");
      }
      if (performance.now() > giveUpAt) throw cause ?? new Error("there is no connection");
      await pause(retryMs);
    }
  }

  async #prepare(redis: Redis): Promise<void> {
    const [info] = await Promise.all([
      // A user of Redis who may not ask can be told less about what was lost.
      redis.info().catch((error: Error) => {
        if (error.message.startsWith("NOPERM")) return "";
        throw error;
      }),
      this.#scripts.load(redis),
    ]);
    if (/^role:slave/m.test(info)) throw new Error("this server is a replica");
    this.#runs.set(redis, /^run_id:(\w+)/m.exec(info)?.[1] ?? "unknown");
  }
}

function unavailable(action: string, cause: unknown): RpcError {
  const reason = (cause instanceof Error ? cause.message : String(cause)).replace(/^AWAY /, "");
  return new RpcError("unavailable", `Redis: cannot ${action}: ${reason}`, { cause });
}
