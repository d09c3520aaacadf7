/**
 * The events between client and spear: their arguments, results and codes, as Gru's clients speak them.
 * An argument may be a JSON string (old clients) or the value itself.
 */
import { z } from "zod";
import { groupIdPattern, userIdPattern } from "./contract.ts";

export const code = {
  success: 0,
  failure: -1,
  defaultError: 1,
  systemError: 1001,
  logicError: 1002,
  parameterError: 1003,
} as const;

/** Why the spear closed a WebSocket (the application's range). After each of them a client may come again. */
export const closeCode = {
  /** It did not authenticate in time. */
  unauthenticated: 4001,
  /** It did not bring new rights in time, see the event `refresh`. */
  rightsExpired: 4003,
  /** It did not read what was sent to it. */
  slowConsumer: 4008,
} as const;

/** What a callback, or without one the event `<name>_result`, is given. */
export interface Result {
  readonly success: boolean;
  readonly errorCode: number;
  readonly msg: string;
  readonly data: object | null;
}

export function success(data: object | null = null): Result {
  return { success: true, errorCode: code.success, msg: "success", data };
}

/** Becomes an error result. `fatal`: the connection is closed after it. */
export class EventError extends Error {
  override readonly name = "EventError";
  readonly errorCode: number;
  readonly fatal: boolean;

  constructor(errorCode: number, message: string, options: { fatal?: boolean } = {}) {
    super(message);
    this.errorCode = errorCode;
    this.fatal = options.fatal ?? false;
  }

  result(): Result {
    return { success: false, errorCode: this.errorCode, msg: this.message, data: null };
  }
}

const userId = idOf(
  userIdPattern,
  "expected a user id: a positive integer or its decimal string",
);
const groupId = idOf(
  groupIdPattern,
  "expected a group id: an integer, or 1 to 128 letters, digits and _ . : @ / -",
);

/** Inside, ids are canonical strings, so that 10 and "10" are one group. */
function idOf(pattern: RegExp, expected: string) {
  return z.unknown().optional().transform((value, context) => {
    const id = Number.isSafeInteger(value) ? String(value) : value;
    if (typeof id === "string" && pattern.test(id)) return id;
    context.addIssue({ code: "custom", message: expected });
    return z.NEVER;
  });
}

const position = z.object({
  epoch: z.string().max(64),
  seq: z.int().nonnegative(),
});

/** How far a client has come in a target's messages. */
export type Position = z.output<typeof position>;

const groups = z.object({
  userId,
  subscribeGroups: z.array(z.object({
    id: groupId,
    since: position.optional(),
    presence: z.boolean().optional(),
  })).min(1, "expected at least one group"),
});

const schemas = {
  auth: z.object({
    id: userId,
    name: z.string().max(256).nullish().transform((name) => name ?? ""),
    appType: z.string().max(256).nullish().transform((appType) => appType ?? ""),
    token1: z.string().nullish().transform((token) => token ?? ""),
    token2: z.string().nullish().transform((token) => token ?? ""),
    since: position.optional(),
  }),
  subscribe: groups,
  unsubscribe: groups,
  msg: z.object({
    type: z.union([z.literal(0), z.literal(1)], {
      error: "expected 0 (to a user) or 1 (to a group)",
    }),
    target: z.object({ id: z.unknown().optional() }),
    content: z.string(),
    clientMsgId: z.string().min(1).max(128).optional(),
  }).transform(({ type, target, ...rest }, context) => {
    const id = (type === 1 ? groupId : userId).safeParse(target.id);
    if (!id.success) {
      context.addIssue({
        code: "custom",
        path: ["target", "id"],
        message: id.error.issues[0]?.message ?? "",
      });
      return z.NEVER;
    }
    return { ...rest, type, targetId: id.data };
  }),
  online: groupId,
};

export type EventName = keyof typeof schemas;
export type Argument<E extends EventName> = z.output<(typeof schemas)[E]>;

export function isEventName(name: string): name is EventName {
  return Object.hasOwn(schemas, name);
}

/** @throws {EventError} parameterError, naming the field and the value. */
export function parseArgument<E extends EventName>(
  event: E,
  raw: unknown,
): { readonly value: Argument<E>; readonly raw: unknown } {
  const argument = event === "online" ? raw : fromJson(event, raw);
  if (isDeeper(argument, maxDepth)) {
    throw new EventError(code.parameterError, `${event}: nested more than ${maxDepth} levels deep`);
  }
  const result = schemas[event].safeParse(argument);
  if (result.success) return { value: result.data as Argument<E>, raw: argument };
  const issue = result.error.issues[0];
  const path = issue?.path ?? [];
  throw new EventError(
    code.parameterError,
    `${[event, ...path.map(String)].join(".")}: ${issue?.message}, got ${
      show(dig(argument, path))
    }`,
  );
}

/** An argument may come back in its result; whoever encodes that goes through it recursively. */
const maxDepth = 32;

function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  return levels === 0 || Object.values(value).some((inner) => isDeeper(inner, levels - 1));
}

function fromJson(event: string, raw: unknown): unknown {
  if (typeof raw !== "string") return raw;
  try {
    return JSON.parse(raw);
  } catch {
    throw new EventError(code.parameterError, `${event}: expected JSON, got ${show(raw)}`);
  }
}

function dig(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce(
    (at: unknown, key) => typeof at === "object" && at !== null ? Reflect.get(at, key) : undefined,
    value,
  );
}

/** A value for a message: short, whatever the client sent. */
function show(value: unknown): string {
  if (typeof value === "object" && value !== null) {
    return Array.isArray(value) ? "a list" : "an object";
  }
  if (value === undefined) return "nothing";
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

/** Old clients know ids as numbers; an id that a JSON number cannot hold stays a string. */
export function wireId(id: string): number | string {
  const number = Number(id);
  return Number.isSafeInteger(number) && String(number) === id ? number : id;
}

/** `g:<group>` or `u:<user>`: whoever messages can be sent to. */
export type Target = `g:${string}` | `u:${string}`;

export function groupTarget(group: string): Target {
  return `g:${group}`;
}

export function userTarget(user: string): Target {
  return `u:${user}`;
}

export interface Message {
  /** Snowflake, decimal. */
  readonly id: string;
  /** Unix milliseconds. */
  readonly createTime: number;
  readonly fromId: string;
  readonly type: 0 | 1;
  readonly targetId: string;
  readonly content: string;
  /** Unix milliseconds; until then history may keep it. 0: history is off. */
  readonly expireTime: number;
}

/** The `msg` event's argument as JSON, without the position that the broker gives it. */
export function encodeMessage(message: Message): string {
  return JSON.stringify({
    id: message.id,
    createTime: message.createTime,
    fromId: wireId(message.fromId),
    msgType: message.type,
    target: { id: wireId(message.targetId), type: -1 },
    content: message.content,
    expireTime: message.expireTime,
  });
}

/**
 * The whole socket.io packet, encoded once for all receivers. It asks for an acknowledgement (id 0), as Gru's did:
 * an old client calls the callback that comes with it. Nobody waits for the answer.
 */
export function encodePacket(body: string, epoch: string, seq: number): string {
  return `20["msg",${body.slice(0, -1)},"seq":${seq},"epoch":"${epoch}"}]`;
}

/** The `msg` event's argument for a message to everyone: of no target, hence without a position. */
export function broadcastMessage(
  message: Pick<Message, "id" | "createTime" | "fromId" | "content">,
) {
  const { id, createTime, fromId, content } = message;
  const target = { id: 0, type: -1 };
  return { id, createTime, fromId: wireId(fromId), msgType: 2, target, content, expireTime: 0 };
}

/** Tells a client that it will not be sent these messages; `since` on `subscribe` or `auth` fetches what is kept of them. */
export function missedEvent(target: Target, epoch: string, from: number, to: number) {
  const type = target.startsWith("g:") ? 1 : 0;
  return { target: { id: wireId(target.slice(2)), type }, epoch, from, to };
}
