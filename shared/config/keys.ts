/** The keys of a schema: what each is called, takes and defaults to. Help, flags, pages and checks are made from them. */
import { z } from "zod";

export type Shape = z.ZodObject;

/** What a schema says about a key by `.meta()`, besides zod's own `description`. */
export interface KeyMeta {
  readonly description?: string;
  /** The key is a secret, and this variable holds it. */
  readonly environmentVariable?: string;
  /** Line ends inside the secret belong to it. */
  readonly lines?: boolean;
  /** The key holds the profile's name. */
  readonly profileName?: boolean;
  /** For a key without a fixed default: what is in force when it is left out. */
  readonly whenMissing?: string;
  /** Names from the root, e.g. `limits.old`, that the key had before; they go on working, with a warning. */
  readonly formerly?: readonly string[];
  /** For a group of keys: an unknown one could weaken a protection, so it is refused rather than ignored. */
  readonly unknownKeys?: "refuse";
}

/**
 * A key that no profile and no flag may hold: its value is the environment variable's, without the white space and line
 * ends around it, which files and shells add. `lines`: line ends inside belong to it, as in PEM.
 */
export function secret(environmentVariable: string, { lines = false } = {}) {
  return z.string().min(1).optional().meta({ environmentVariable, lines });
}

/** A key that holds the profile's name, whatever is in the file. */
export function profileName() {
  return z.string().default("").meta({ profileName: true });
}

/** A key with a value of its own; groups of keys have none. */
export interface Leaf {
  /** From the root, with dots: `limits.authMs`. */
  readonly key: string;
  readonly path: readonly string[];
  /** Without `optional`, `default` and the like. */
  readonly type: z.ZodType;
  /** undefined: it has none; see `whenMissing`. */
  readonly defaultValue: unknown;
  readonly whenMissing: string | undefined;
  readonly description: string | undefined;
  /** The environment variable of a secret. */
  readonly secret: string | undefined;
  readonly lines: boolean;
  readonly profileName: boolean;
  readonly formerly: readonly string[];
}

/** In the schema's order. */
export function leavesOf(schema: Shape, prefix: readonly string[] = []): Leaf[] {
  return Object.entries(schema.shape).flatMap(([name, field]) => {
    const path = [...prefix, name];
    const { inner, meta, defaultValue } = unwrap(field as z.ZodType);
    if (inner instanceof z.ZodObject) return leavesOf(inner, path);
    return [{
      key: path.join("."),
      path,
      type: inner,
      defaultValue,
      whenMissing: meta.whenMissing,
      description: meta.description,
      secret: meta.environmentVariable,
      lines: meta.lines === true,
      profileName: meta.profileName === true,
      formerly: meta.formerly ?? [],
    }];
  });
}

export interface Unwrapped {
  readonly inner: z.ZodType;
  readonly meta: KeyMeta;
  readonly defaultValue: unknown;
}

/** The type inside `optional`, `default` and the like, and what all of these say about the key. */
export function unwrap(field: z.ZodType): Unwrapped {
  const meta = (field.meta() ?? {}) as KeyMeta;
  if (
    field instanceof z.ZodOptional || field instanceof z.ZodNullable ||
    field instanceof z.ZodDefault || field instanceof z.ZodPrefault
  ) {
    const inside = unwrap(field.unwrap() as z.ZodType);
    return {
      inner: inside.inner,
      meta: { ...inside.meta, ...meta },
      defaultValue: field instanceof z.ZodDefault ? field.def.defaultValue : inside.defaultValue,
    };
  }
  return { inner: field, meta, defaultValue: undefined };
}

interface JsonType {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly items?: JsonType;
}

/** What the key takes, for people: `integer, 1 to 1000000`. */
export function typeText({ type }: Leaf): string {
  return describeType(z.toJSONSchema(type, { io: "input", unrepresentable: "any" }) as JsonType);
}

function describeType({ type = "any", enum: choices, minimum, maximum, items }: JsonType): string {
  if (choices !== undefined) return choices.join(" | ");
  if (items !== undefined) return `list of ${describeType(items)}`;
  // zod bounds every integer by those that a number can hold.
  const least = minimum === Number.MIN_SAFE_INTEGER ? undefined : minimum;
  const most = maximum === Number.MAX_SAFE_INTEGER ? undefined : maximum;
  if (least !== undefined && most !== undefined) return `${type}, ${least} to ${most}`;
  if (least !== undefined) return `${type}, at least ${least}`;
  if (most !== undefined) return `${type}, at most ${most}`;
  return type;
}

/** What is in force when the key is left out, for people. */
export function defaultText({ defaultValue, whenMissing }: Leaf): string | undefined {
  if (whenMissing !== undefined) return whenMissing;
  if (defaultValue === undefined) return undefined;
  if (Array.isArray(defaultValue)) return defaultValue.join(",") || "none";
  return String(defaultValue);
}

export function get(object: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (at, key) =>
      typeof at === "object" && at !== null && Object.hasOwn(at, key)
        ? Reflect.get(at, key)
        : undefined,
    object,
  );
}

/** Makes the groups on the way. A value that is no object where a group belongs stays, for the schema to refuse. */
export function set(
  object: Record<string, unknown>,
  path: readonly string[],
  value: unknown,
): void {
  const [first, ...rest] = path;
  if (first === undefined) return;
  if (rest.length === 0) {
    object[first] = value;
    return;
  }
  const inner = Object.hasOwn(object, first) ? object[first] : {};
  object[first] = inner;
  if (typeof inner === "object" && inner !== null) {
    set(inner as Record<string, unknown>, rest, value);
  }
}

export function unset(object: unknown, path: readonly PropertyKey[]): void {
  const last = path.at(-1);
  const holder = get(object, path.slice(0, -1));
  if (last !== undefined && typeof holder === "object" && holder !== null) {
    Reflect.deleteProperty(holder, last);
  }
}
