/** What a script of Redis runs on: the values of Lua 5.1, its operators, and the part of its library that is simulated. */

/** What a script can hold; nil is undefined. */
export type LuaValue = undefined | boolean | number | string | LuaTable | LuaFunction;
type LuaFunction = (...args: LuaValue[]) => LuaValue[];

/** An error that a script raises or gives back. */
export class LuaError extends Error {}

export class LuaTable {
  readonly list: LuaValue[];
  readonly map = new Map<LuaValue, LuaValue>();

  constructor(list: LuaValue[] = []) {
    this.list = list;
  }

  get(key: LuaValue): LuaValue {
    return typeof key === "number" && key >= 1 && key <= this.list.length
      ? this.list[key - 1]
      : this.map.get(key);
  }

  set(key: LuaValue, value: LuaValue): void {
    const { list } = this;
    if (typeof key !== "number" || key < 1 || key > list.length + 1) this.map.set(key, value);
    else if (value !== undefined) list[key - 1] = value;
    else if (key === list.length) list.pop();
    else if (key <= list.length) throw new LuaError("a hole in a list is not simulated");
  }
}

export interface LuaHost {
  /** `redis.call`: throws {@linkcode LuaError}. */
  call(args: readonly string[]): LuaValue;
  /** Whether the user may. */
  check(args: readonly string[]): boolean;
}

/** A number as Lua writes it where text is wanted. */
export function luaText(value: LuaValue): string {
  if (typeof value === "string") return value;
  if (typeof value !== "number") {
    throw new LuaError(`attempt to concatenate a ${typeName(value)} value`);
  }
  if (Number.isInteger(value) && Math.abs(value) < 1e14) return String(value);
  if (!Number.isFinite(value)) return value > 0 ? "inf" : value < 0 ? "-inf" : "nan";
  const [mantissa = "", exponent = ""] = value.toExponential(13).split("e");
  const power = Number(exponent);
  const strip = (digits: string) => digits.includes(".") ? digits.replace(/\.?0+$/, "") : digits;
  if (power >= -4 && power < 14) return strip(value.toFixed(13 - power));
  const digits = String(Math.abs(power)).padStart(2, "0");
  return `${strip(mantissa)}e${power < 0 ? "-" : "+"}${digits}`;
}

function typeName(value: LuaValue): string {
  if (value === undefined) return "nil";
  return value instanceof LuaTable ? "table" : typeof value;
}

const patterns = new Map<string, RegExp>();

/** A pattern of Lua as a regular expression. */
function patternOf(text: string): RegExp {
  return patterns.getOrInsertComputed(text, () => {
    let source = "";
    /** Something that may be repeated stands before. */
    let item = false;
    for (let i = 0; i < text.length; i++) {
      const char = text[i] as string;
      if (char === "%") {
        const letter = text[++i] ?? "";
        if (/[a-z]/i.test(letter) && !/[dsw]/i.test(letter)) {
          throw new LuaError(`%${letter} in the pattern ${text} is not simulated`);
        }
        source += `\\${letter}`;
        item = true;
      } else if ((char === "^" && i === 0) || (char === "$" && i === text.length - 1)) {
        source += char;
      } else if (char === "(" || char === ")") {
        source += char;
        item = false;
      } else if (item && "+*?-".includes(char)) {
        source += char === "-" ? "*?" : char;
        item = false;
      } else if (char === "[") {
        const end = text.indexOf("]", i + 2);
        source += text.slice(i, end + 1).replaceAll("%", "\\");
        i = end;
        item = true;
      } else {
        source += char === "." ? "[^]" : char.replace(/[\\^$.*+?|{}\-\/]/, "\\$&");
        item = true;
      }
    }
    return new RegExp(source);
  });
}

export const runtime = {
  truth: (value: LuaValue) => value !== undefined && value !== false,
  and: (left: LuaValue, right: () => LuaValue) => runtime.truth(left) ? right() : left,
  or: (left: LuaValue, right: () => LuaValue) => runtime.truth(left) ? left : right(),
  num: (value: LuaValue): number => {
    const number = runtime.tonumber(value)[0];
    if (typeof number === "number") return number;
    throw new LuaError(`attempt to perform arithmetic on a ${typeName(value)} value`);
  },
  get: (table: LuaValue, key: LuaValue): LuaValue => {
    if (table instanceof LuaTable) return table.get(key);
    throw new LuaError(`attempt to index a ${typeName(table)} value`);
  },
  set: (table: LuaValue, key: LuaValue, value: LuaValue) => {
    if (!(table instanceof LuaTable)) {
      throw new LuaError(`attempt to index a ${typeName(table)} value`);
    }
    table.set(key, value);
  },
  table: (list: LuaValue[], keyed: [LuaValue, LuaValue][]) => {
    while (list.length > 0 && list.at(-1) === undefined) list.pop();
    const table = new LuaTable(list);
    for (const [key, value] of keyed) table.set(key, value);
    return table;
  },
  each: (kind: string, table: LuaValue): [LuaValue, LuaValue][] => {
    if (!(table instanceof LuaTable)) throw new LuaError(`bad argument to '${kind}'`);
    const list = table.list.map((value, i): [LuaValue, LuaValue] => [i + 1, value]);
    return kind === "ipairs" ? list : [...list, ...table.map];
  },
  unary: (operator: string, value: LuaValue): LuaValue => {
    if (operator === "not") return !runtime.truth(value);
    if (operator === "-") return -runtime.num(value);
    return value instanceof LuaTable ? value.list.length : luaText(value).length;
  },
  binary: (operator: string, left: LuaValue, right: LuaValue): LuaValue => {
    switch (operator) {
      case "==":
        return left === right;
      case "~=":
        return left !== right;
      case "..":
        return luaText(left) + luaText(right);
      case "+":
        return runtime.num(left) + runtime.num(right);
      case "-":
        return runtime.num(left) - runtime.num(right);
      case "*":
        return runtime.num(left) * runtime.num(right);
      case "/":
        return runtime.num(left) / runtime.num(right);
      case "%": {
        const [a, b] = [runtime.num(left), runtime.num(right)];
        return a - Math.floor(a / b) * b;
      }
    }
    if (typeof left !== typeof right || (typeof left !== "number" && typeof left !== "string")) {
      throw new LuaError(`attempt to compare ${typeName(left)} with ${typeName(right)}`);
    }
    const [a, b] = [left, right as typeof left];
    return operator === "<"
      ? a < b
      : operator === "<="
      ? a <= b
      : operator === ">"
      ? a > b
      : a >= b;
  },
  tonumber: (value: LuaValue): LuaValue[] => {
    if (typeof value === "number") return [value];
    if (typeof value !== "string" || value.trim() === "") return [undefined];
    const number = Number(value);
    return [Number.isNaN(number) ? undefined : number];
  },
  tostring: (value: LuaValue): LuaValue[] => [
    value === undefined ? "nil" : typeof value === "boolean" ? String(value) : luaText(value),
  ],
  type: (value: LuaValue): LuaValue[] => [typeName(value)],
  error: (value: LuaValue): never => {
    throw new LuaError(luaText(value));
  },
  unpack: (table: LuaValue): LuaValue[] => (table as LuaTable).list,
  math_floor: (value: LuaValue): LuaValue[] => [Math.floor(runtime.num(value))],
  math_ceil: (value: LuaValue): LuaValue[] => [Math.ceil(runtime.num(value))],
  math_max: (...values: LuaValue[]): LuaValue[] => [Math.max(...values.map(runtime.num))],
  math_min: (...values: LuaValue[]): LuaValue[] => [Math.min(...values.map(runtime.num))],
  string_match: (text: LuaValue, pattern: LuaValue): LuaValue[] => {
    const found = patternOf(luaText(pattern)).exec(luaText(text));
    if (found === null) return [undefined];
    return found.length > 1 ? found.slice(1) : [found[0]];
  },
  /** Plain texts only: the scripts look for nothing else with it. */
  string_find: (text: LuaValue, part: LuaValue, from: LuaValue, plain: LuaValue): LuaValue[] => {
    if (plain !== true) throw new LuaError("string.find with a pattern");
    const at = luaText(text).indexOf(luaText(part), runtime.num(from) - 1);
    return at < 0 ? [undefined] : [at + 1, at + luaText(part).length];
  },
  string_sub: (text: LuaValue, from: LuaValue, to: LuaValue = -1): LuaValue[] => {
    const all = luaText(text);
    const at = (value: LuaValue) =>
      runtime.num(value) < 0 ? all.length + runtime.num(value) + 1 : runtime.num(value);
    return [all.slice(Math.max(at(from), 1) - 1, Math.max(at(to), 0))];
  },
  string_len: (text: LuaValue): LuaValue[] => [luaText(text).length],
  string_format: (format: LuaValue, ...values: LuaValue[]): LuaValue[] => [
    luaText(format).replaceAll(/%(?:\.0f|d|s)/g, (kind) => {
      const value = values.shift();
      return kind === "%s" ? luaText(value) : String(Math.trunc(runtime.num(value)));
    }),
  ],
  table_insert: (table: LuaValue, value: LuaValue): LuaValue[] => {
    (table as LuaTable).list.push(value);
    return [];
  },
  table_concat: (table: LuaValue, separator: LuaValue = ""): LuaValue[] => [
    (table as LuaTable).list.map(luaText).join(luaText(separator)),
  ],
};

export function redisOf(host: LuaHost) {
  // Redis gives numbers to its commands in full.
  const texts = (args: readonly LuaValue[]) =>
    args.map((arg) => typeof arg === "number" ? String(arg) : luaText(arg));
  const call = (...args: LuaValue[]): LuaValue[] => [host.call(texts(args))];
  return {
    call,
    acl_check_cmd: (...args: LuaValue[]): LuaValue[] => [host.check(texts(args))],
    pcall: (...args: LuaValue[]): LuaValue[] => {
      try {
        return call(...args);
      } catch (error) {
        if (!(error instanceof LuaError)) throw error;
        return [runtime.table([], [["err", error.message]])];
      }
    },
    error_reply: (text: LuaValue): LuaValue[] => [runtime.table([], [["err", text]])],
    status_reply: (text: LuaValue): LuaValue[] => [runtime.table([], [["ok", text]])],
    log: (): LuaValue[] => [],
  };
}
