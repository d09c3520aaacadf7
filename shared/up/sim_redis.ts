/**
 * A Redis in memory: the commands that Gru uses of it, its scripts (the real ones), subscriptions, and what can go wrong with a
 * server: it hangs, refuses, dies, and comes back without the last moments of its data.
 */
import { compile } from "./sim_lua.ts";
import { LuaError, LuaTable, luaText, type LuaValue } from "./sim_lua_runtime.ts";
import {
  compareIds,
  hash,
  isWithin,
  list,
  LuaTableOf,
  type Reply,
  type StreamEntry,
  toReply,
  wrongType,
} from "./sim_redis_values.ts";

type Value =
  | { readonly kind: "string"; readonly text: string }
  | { readonly kind: "hash"; readonly fields: ReadonlyMap<string, string> }
  | { readonly kind: "stream"; readonly entries: readonly StreamEntry[]; readonly last: string };

/** Never changed, only replaced: an older state is had by keeping it. */
interface Stored {
  readonly value: Value;
  /** Unix milliseconds; Infinity: never. */
  readonly expiresAt: number;
}

export class RedisError extends Error {}

export interface Subscriber {
  message(channel: string, text: string): void;
}

/** Unix milliseconds before a target's first sign: what Redis forgets by itself is not played. */
export interface SimRedisOptions {
  /** `aof`: it keeps its name over a restart, as one with an append-only file does; `process`: each process is another. */
  readonly identity: "aof" | "process";
}

export class SimRedis {
  readonly identity: SimRedisOptions["identity"];
  /** Commands that the user has no permission for, in lower case. */
  readonly forbidden = new Set<string>();
  /** What every write is answered with, as when memory or the disk is full. */
  full: string | undefined;
  /** What was written, with what was there before: to be taken back when a tail is lost. */
  #journal: { readonly at: number; readonly key: string; readonly before: Stored | undefined }[] =
    [];
  #data = new Map<string, Stored>();
  #scripts = new Map<string, string>();
  readonly #channels = new Map<string, Set<Subscriber>>();
  #process = 1;

  constructor({ identity }: SimRedisOptions) {
    this.identity = identity;
  }

  get process(): number {
    return this.#process;
  }

  /** Another process with what the last one had written by then. @param since Unix milliseconds */
  restart(since: number): number {
    this.#process++;
    this.#scripts = new Map();
    this.#channels.clear();
    return this.loseSince(since);
  }

  /** @returns how many writes are lost */
  loseSince(since: number): number {
    let lost = 0;
    for (let last; (last = this.#journal.at(-1)) !== undefined && last.at >= since; lost++) {
      this.#journal.pop();
      if (last.before === undefined) this.#data.delete(last.key);
      else this.#data.set(last.key, last.before);
    }
    return lost;
  }

  unsubscribeAll(subscriber: Subscriber): void {
    for (const subscribers of this.#channels.values()) subscribers.delete(subscriber);
  }

  /** What a command answers. Throws {@linkcode RedisError} for what Redis answers with an error. */
  run(args: readonly string[], from?: Subscriber): Reply {
    const [name = "", ...rest] = args;
    switch (name) {
      case "info":
        return `aof_enabled:${this.identity === "aof" ? 1 : 0}\r\nrun_id:${
          `run${String(this.#process).padStart(9, "0")}`.padEnd(40, "0")
        }\r\nrole:master\r\n`;
      case "config":
        return [rest[1] ?? "", "everysec"];
      case "ping":
        return "PONG";
      case "script": {
        const [, text = ""] = rest;
        const sha = `sha${hash(text)}`;
        this.#scripts.set(sha, text);
        return sha;
      }
      case "evalsha": {
        if (this.forbidden.has(name)) {
          throw new RedisError("NOPERM this user may not run 'evalsha'");
        }
        const [sha = "", count = "0", ...all] = rest;
        const text = this.#scripts.get(sha);
        if (text === undefined) {
          throw new RedisError("NOSCRIPT No matching script. Please use EVAL.");
        }
        return this.#evaluate(text, all.slice(0, Number(count)), all.slice(Number(count)));
      }
      case "subscribe":
      case "ssubscribe":
        for (const channel of rest) {
          this.#refuse(name);
          if (from !== undefined) {
            this.#channels.getOrInsertComputed(channel, () => new Set()).add(from);
          }
        }
        return rest.length;
      case "unsubscribe":
      case "sunsubscribe":
        for (const channel of rest) {
          if (from !== undefined) this.#channels.get(channel)?.delete(from);
        }
        return rest.length;
      default:
        try {
          return toReply(this.#command(name.toLowerCase(), rest));
        } catch (error) {
          throw error instanceof LuaError ? new RedisError(error.message) : error;
        }
    }
  }

  /** For the checker: the fields of a hash as they are. */
  hash(key: string): ReadonlyMap<string, string> | undefined {
    const value = this.#get(key);
    return value?.kind === "hash" ? value.fields : undefined;
  }

  entries(key: string): readonly StreamEntry[] {
    const value = this.#get(key);
    return value?.kind === "stream" ? value.entries : [];
  }

  keys(): string[] {
    return [...this.#data.keys()];
  }

  #evaluate(text: string, keys: readonly string[], argv: readonly string[]): Reply {
    const host = {
      call: ([name = "", ...args]: readonly string[]) => this.#command(name.toLowerCase(), args),
      check: ([name = ""]: readonly string[]) => !this.forbidden.has(name.toLowerCase()),
    };
    try {
      const result = compile(text)(host, keys, argv);
      if (result instanceof LuaTable && result.get("err") !== undefined) {
        throw new RedisError(luaText(result.get("err")));
      }
      return toReply(result);
    } catch (error) {
      throw error instanceof LuaError
        ? new RedisError(`${error.message} script: f_1, on @user_script`)
        : error;
    }
  }

  #refuse(name: string): void {
    if (this.forbidden.has(name)) {
      throw new LuaError(`NOPERM this user has no permissions to run the '${name}' command`);
    }
    if (this.full !== undefined && /^(hset|hincrby|set|xadd)$/.test(name)) {
      throw new LuaError(this.full);
    }
  }

  /** As a script sees what it answers: false for nil. */
  #command(name: string, args: readonly string[]): LuaValue {
    this.#refuse(name);
    const [key = "", ...rest] = args;
    switch (name) {
      case "time": {
        const now = Date.now();
        return list([String(Math.floor(now / 1000)), String(now % 1000 * 1000)]);
      }
      case "get": {
        const value = this.#get(key);
        return value?.kind === "string" ? value.text : false;
      }
      case "set":
        return this.#set(key, rest);
      case "exists":
        return this.#get(key) === undefined ? 0 : 1;
      case "del": {
        const found = args.filter((one) => this.#get(one) !== undefined);
        for (const one of found) this.#put(one, undefined);
        return found.length;
      }
      case "pexpire": {
        const value = this.#get(key);
        if (value === undefined) return 0;
        this.#put(key, value, Date.now() + Number(rest[0]));
        return 1;
      }
      case "pttl": {
        const stored = this.#data.get(key);
        if (this.#get(key) === undefined || stored === undefined) return -2;
        return stored.expiresAt === Infinity ? -1 : stored.expiresAt - Date.now();
      }
      case "hget":
        return this.#fields(key).get(rest[0] ?? "") ?? false;
      case "hmget": {
        const fields = this.#fields(key);
        return list(rest.map((field) => fields.get(field) ?? false));
      }
      case "hgetall":
        return list([...this.#fields(key)].flat());
      case "hexists":
        return this.#fields(key).has(rest[0] ?? "") ? 1 : 0;
      case "hset":
      case "hmset": {
        const fields = new Map(this.#fields(key));
        for (let i = 0; i + 1 < rest.length; i += 2) fields.set(rest[i] ?? "", rest[i + 1] ?? "");
        this.#put(key, { kind: "hash", fields });
        return rest.length / 2;
      }
      case "hincrby": {
        const fields = new Map(this.#fields(key));
        const sum = Number(fields.get(rest[0] ?? "") ?? 0) + Number(rest[1]);
        this.#put(key, { kind: "hash", fields: fields.set(rest[0] ?? "", String(sum)) });
        return sum;
      }
      case "hdel": {
        const fields = new Map(this.#fields(key));
        const gone = rest.filter((field) => fields.delete(field)).length;
        if (gone > 0) this.#put(key, fields.size === 0 ? undefined : { kind: "hash", fields });
        return gone;
      }
      case "xadd":
        return this.#xadd(key, rest);
      case "xlen":
        return this.#stream(key).length;
      case "xtrim": {
        const limit = rest.at(-1) ?? "";
        const entries = this.#stream(key);
        const kept = rest[0]?.toUpperCase() === "MINID"
          ? entries.filter(({ id }) => compareIds(id, limit) >= 0)
          : entries.slice(-Number(limit));
        this.#putStream(key, kept);
        return entries.length - kept.length;
      }
      case "xdel": {
        this.#putStream(key, this.#stream(key).filter(({ id }) => !rest.includes(id)));
        return 1;
      }
      case "xrange":
      case "xrevrange":
        return this.#xrange(key, rest, name === "xrevrange");
      case "publish":
      case "spublish": {
        const subscribers = [...this.#channels.get(key) ?? []];
        for (const subscriber of subscribers) subscriber.message(key, rest[0] ?? "");
        return subscribers.length;
      }
      case "wait":
        return 1;
      default:
        throw new Error(`the command ${name} is not simulated`);
    }
  }

  #set(key: string, [text = "", ...options]: readonly string[]): LuaValue {
    const upper = options.map((option) => option.toUpperCase());
    if (upper.includes("NX") && this.#get(key) !== undefined) return false;
    const px = upper.indexOf("PX");
    this.#put(
      key,
      { kind: "string", text },
      px < 0 ? Infinity : Date.now() + Number(options[px + 1]),
    );
    return new LuaTableOf("ok", "OK");
  }

  #xadd(key: string, args: readonly string[]): LuaValue {
    let at = 0;
    let most = Infinity;
    if (args[0]?.toUpperCase() === "MAXLEN") {
      at = /^[~=]$/.test(args[1] ?? "") ? 2 : 1;
      // Redis trims whole blocks where it may, of 100 entries.
      most = Number(args[at]) + (args[1] === "~" ? 100 : 0);
      at++;
    }
    const [id = "", ...fields] = args.slice(at);
    const before = this.#get(key);
    const last = before?.kind === "stream" ? before.last : "0-0";
    if (compareIds(id, last) <= 0) {
      throw new LuaError(
        "ERR The ID specified in XADD is equal or smaller than the target stream top item",
      );
    }
    const entries = [...this.#stream(key), { id, fields }];
    this.#put(key, {
      kind: "stream",
      entries: entries.length > most ? entries.slice(-(most - 100)) : entries,
      last: id,
    });
    return id;
  }

  #xrange(key: string, args: readonly string[], backwards: boolean): LuaValue {
    const [first = "", second = ""] = args;
    const [from, to] = backwards ? [second, first] : [first, second];
    const count = args[2]?.toUpperCase() === "COUNT" ? Number(args[3]) : Infinity;
    const found = this.#stream(key).filter(({ id }) => isWithin(id, from, to));
    if (backwards) found.reverse();
    return list(found.slice(0, count).map(({ id, fields }) => list([id, list([...fields])])));
  }

  #fields(key: string): ReadonlyMap<string, string> {
    const value = this.#get(key);
    if (value !== undefined && value.kind !== "hash") throw new LuaError(wrongType);
    return value?.fields ?? new Map();
  }

  #stream(key: string): readonly StreamEntry[] {
    const value = this.#get(key);
    if (value !== undefined && value.kind !== "stream") throw new LuaError(wrongType);
    return value?.entries ?? [];
  }

  #putStream(key: string, entries: readonly StreamEntry[]): void {
    const value = this.#get(key);
    if (value?.kind === "stream") this.#put(key, { ...value, entries });
  }

  #get(key: string): Value | undefined {
    const stored = this.#data.get(key);
    if (stored === undefined) return undefined;
    if (stored.expiresAt > Date.now()) return stored.value;
    this.#put(key, undefined);
    return undefined;
  }

  /** Without `expiresAt` what is there keeps its own. */
  #put(key: string, value: Value | undefined, expiresAt?: number): void {
    const before = this.#data.get(key);
    this.#journal.push({ at: Date.now(), key, before });
    if (value === undefined) this.#data.delete(key);
    else this.#data.set(key, { value, expiresAt: expiresAt ?? before?.expiresAt ?? Infinity });
  }
}
