/** Values of the simulated Redis: entries of streams and their ids, and what becomes of what a script returns. */
import { LuaError, LuaTable, type LuaValue } from "./sim_lua_runtime.ts";

export interface StreamEntry {
  readonly id: string;
  readonly fields: readonly string[];
}

/** What a client is given: as ioredis gives it. */
export type Reply = null | number | string | Reply[];

export const wrongType = "WRONGTYPE Operation against a key holding the wrong kind of value";

/** A table with one named field. */
export class LuaTableOf extends LuaTable {
  constructor(key: string, value: LuaValue) {
    super();
    this.set(key, value);
  }
}

export function list(values: LuaValue[]): LuaTable {
  return new LuaTable(values);
}

export function toReply(value: LuaValue): Reply {
  if (typeof value === "number") return Math.trunc(value);
  if (typeof value === "string") return value;
  if (value === true) return 1;
  if (!(value instanceof LuaTable)) return null;
  const ok = value.get("ok");
  if (typeof ok === "string") return ok;
  const end = value.list.indexOf(undefined);
  return (end < 0 ? value.list : value.list.slice(0, end)).map(toReply);
}

function idOf(text: string, isEnd: boolean): [number, number] {
  const [ms = "0", seq] = text.split("-");
  for (const part of [ms, seq ?? "0"]) {
    if (!/^\d+$/.test(part)) {
      throw new LuaError("ERR Invalid stream ID specified as stream command argument");
    }
  }
  return [Number(ms), seq === undefined ? (isEnd ? Infinity : 0) : Number(seq)];
}

export function compareIds(a: string, b: string): number {
  const [[a1, a2], [b1, b2]] = [idOf(a, false), idOf(b, false)];
  return a1 === b1 ? a2 - b2 : a1 - b1;
}

export function isWithin(id: string, from: string, to: string): boolean {
  const [ms, seq] = idOf(id, false);
  const beyond = (bound: string, isEnd: boolean): boolean => {
    if (bound === "-" || bound === "+") return true;
    const isOpen = bound.startsWith("(");
    const [itsMs, itsSeq] = idOf(isOpen ? bound.slice(1) : bound, isEnd);
    const order = ms === itsMs ? seq - itsSeq : ms - itsMs;
    return isOpen ? (isEnd ? order < 0 : order > 0) : isEnd ? order <= 0 : order >= 0;
  };
  return beyond(from, false) && beyond(to, true);
}

export function hash(text: string): string {
  let value = 0;
  for (let i = 0; i < text.length; i++) value = (Math.imul(value, 31) + text.charCodeAt(i)) | 0;
  return (value >>> 0).toString(16);
}
