/**
 * The events between client and spear: their arguments, results and codes, as Gru's clients speak them.
 * An argument may be a JSON string (old clients) or the value itself.
 */
import { redact } from "@gru/shared/redact";
import { z } from "zod";
import { wellFormed } from "./contract.ts";
import type { Disconnect } from "./disconnects.ts";
import { expectedGroupId, expectedUserId, isGroupId, isUserId } from "./identifiers.ts";

export const code = {
  success: 0,
  failure: -1,
  defaultError: 1,
  systemError: 1001,
  logicError: 1002,
  parameterError: 1003,
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

/** A success whose data may be large: encoded once, for all who are given it. */
export function encodedSuccess(data: object): { readonly result: Result; readonly bytes: number } {
  const result = success(data);
  const text = JSON.stringify(result);
  encoded.set(result, text);
  return { result, bytes: text.length };
}

const encoded = new WeakMap<Result, string>();

export function resultJson(result: Result): string {
  return encoded.get(result) ?? JSON.stringify(result);
}

export interface EventErrorOptions {
  /** How the connection ends after it. */
  readonly ends?: Disconnect | undefined;
  /** It is worth trying again then. */
  readonly retryAfterMs?: number | undefined;
}

/** Becomes an error result. */
export class EventError extends Error {
  override readonly name = "EventError";
  readonly errorCode: number;
  readonly ends: Disconnect | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(errorCode: number, message: string, options: EventErrorOptions = {}) {
    super(redact(message));
    this.errorCode = errorCode;
    this.ends = options.ends;
    this.retryAfterMs = options.retryAfterMs;
  }

  result(): Result {
    const data = this.retryAfterMs === undefined
      ? null
      : { retryAfterMs: Math.max(1, Math.ceil(this.retryAfterMs)) };
    return { success: false, errorCode: this.errorCode, msg: this.message, data };
  }
}

const userId = idOf(isUserId, `expected ${expectedUserId}`);
const groupId = idOf(isGroupId, `expected ${expectedGroupId}`);

/** Inside, ids are canonical strings, so that 10 and "10" are one group. */
function idOf(isId: (value: unknown) => value is string, expected: string) {
  return z.unknown().optional().transform((value, context) => {
    const id = Number.isSafeInteger(value) ? String(value) : value;
    if (isId(id)) return id;
    context.addIssue({ code: "custom", message: expected });
    return z.NEVER;
  });
}

const position = z.object({
  epoch: wellFormed.max(64),
  seq: z.int().nonnegative(),
});

/** How far a client has come in a target's messages. */
export type Position = z.output<typeof position>;

const groups = z.object({
  userId,
  subscribeGroups: z.array(z.object({
    id: groupId,
    since: position.optional(),
    last: z.int("expected a number of messages").nonnegative("expected a number of messages")
      .optional(),
    presence: z.boolean().optional(),
  })).min(1, "expected at least one group"),
});

const schemas = {
  auth: z.object({
    id: userId,
    name: wellFormed.max(256).nullish().transform((name) => name ?? ""),
    appType: wellFormed.max(256).nullish().transform((appType) => appType ?? ""),
    token1: wellFormed.nullish().transform((token) => token ?? ""),
    token2: wellFormed.nullish().transform((token) => token ?? ""),
    since: position.optional(),
    affinity: wellFormed.max(128).nullish().transform((affinity) => affinity || undefined),
  }),
  subscribe: groups,
  unsubscribe: groups,
  msg: z.object({
    type: z.union([z.literal(0), z.literal(1)], {
      error: "expected 0 (to a user) or 1 (to a group)",
    }),
    target: z.object({ id: z.unknown().optional() }),
    // Whatever it holds: it travels as JSON, which escapes what is not well formed.
    content: z.string(),
    clientMsgId: wellFormed.min(1).max(128).optional(),
    priority: z.enum(["low", "normal"]).optional(),
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

/**
 * A list of groups with more than `maxGroups` entries is refused before it is looked at.
 * @throws {EventError} parameterError, naming the field and the value.
 */
export function parseArgument<E extends EventName>(
  event: E,
  raw: unknown,
  maxGroups = Infinity,
): { readonly value: Argument<E>; readonly raw: unknown; readonly size: number } {
  const argument = event === "online" ? raw : fromJson(event, raw);
  const size = sizeOf(argument);
  if (size === Infinity) throw tooDeep(event);
  const groups = dig(argument, ["subscribeGroups"]);
  if (Array.isArray(groups) && groups.length > maxGroups) {
    throw new EventError(
      code.parameterError,
      `${event}.subscribeGroups: expected ${maxGroups} groups at most, got ${groups.length}`,
    );
  }
  const result = schemas[event].safeParse(argument);
  if (result.success) return { value: result.data as Argument<E>, raw: argument, size };
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

function tooDeep(event: string): EventError {
  return new EventError(code.parameterError, `${event}: nested more than ${maxDepth} levels deep`);
}

/** About its characters as JSON; Infinity: it nests more than {@linkcode maxDepth} levels deep. */
export function sizeOf(value: unknown, levels = maxDepth): number {
  if (typeof value === "string") return value.length;
  if (typeof value !== "object" || value === null) return 4;
  if (levels === 0) return Infinity;
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return value.byteLength;
  let size = 2;
  if (Array.isArray(value)) {
    for (const inner of value) size += 1 + sizeOf(inner, levels - 1);
  } else {
    for (const key in value) size += key.length + 4 + sizeOf(Reflect.get(value, key), levels - 1);
  }
  return size;
}

/** Whether a JSON text nests deeper: what it would be as values takes up to a hundred times its bytes, so it is not parsed. */
export function nestsDeeper(text: string, levels: number): boolean {
  if (text.length <= levels) return false;
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const character = text.charCodeAt(i);
    if (character === quote) i = endOfString(text, i);
    else if (character === 91 || character === 123) {
      if (++depth > levels) return true;
    } else if (character === 93 || character === 125) depth--;
  }
  return false;
}

const quote = 34;
const backslash = 92;

function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end > 0; end = text.indexOf('"', end + 1)) {
    let escapes = 0;
    while (text.charCodeAt(end - 1 - escapes) === backslash) escapes++;
    if (escapes % 2 === 0) return end;
  }
  return text.length;
}

function fromJson(event: string, raw: unknown): unknown {
  if (typeof raw !== "string") return raw;
  if (nestsDeeper(raw, maxDepth)) throw tooDeep(event);
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
  return JSON.stringify(messageArgument(message));
}

function messageArgument(message: Message) {
  return {
    id: message.id,
    createTime: message.createTime,
    fromId: wireId(message.fromId),
    msgType: message.type,
    target: { id: wireId(message.targetId), type: -1 },
    content: message.content,
    expireTime: message.expireTime,
  };
}

/** The `msg` event's argument for a message that only its sender gets: no history has it, so it has no position. */
export function hiddenMessage(message: Omit<Message, "expireTime">) {
  return messageArgument({ ...message, expireTime: 0 });
}

/**
 * The whole socket.io packet, encoded once for all receivers. It asks for an acknowledgement (id 0), as Gru's did:
 * an old client calls the callback that comes with it. Nobody waits for the answer. An ephemeral message (seq 0) has no position.
 */
export function encodePacket(body: string, epoch: string, seq: number): string {
  if (seq === 0) return `20["msg",${body}]`;
  return `20["msg",${body.slice(0, -1)},"seq":${seq},"epoch":"${epoch}"}]`;
}

/** In the place of a message that its sender is not sent: how far the target has come. */
export function encodePassed(target: Target, epoch: string, seq: number): string {
  return `2${JSON.stringify(["passed", { target: targetOfEvent(target), epoch, seq }])}`;
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
  return { target: targetOfEvent(target), epoch, from, to };
}

function targetOfEvent(target: Target) {
  return { id: wireId(target.slice(2)), type: target.startsWith("g:") ? 1 : 0 };
}
