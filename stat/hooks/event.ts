/** What business systems are told: the kinds of events, and what each of them says. */
import { z } from "zod";
import { nameSchema } from "../contract.ts";

const id = nameSchema.describe("an id, as decimal digits");
const user = z.strictObject({ userId: id });
const group = z.strictObject({ groupId: id });
const member = z.strictObject({ groupId: id, userId: id });
const node = z.strictObject({ node: nameSchema });

const message = z.strictObject({
  id,
  groupId: id.optional(),
  userId: id.optional(),
  senderId: id.optional(),
  seq: z.int().min(0),
  epoch: z.string(),
  content: z.string(),
});

/** `data` of each kind. */
export const eventData = {
  "user.online": user,
  "user.offline": user,
  "group.occupied": group,
  "group.vacated": group,
  "member.joined": member,
  "member.left": member,
  "message.accepted": message,
  "message.unattended": message,
  "user.kicked": z.strictObject({ userId: id, reason: z.string() }),
  /** With `groupId` the group is closed for everybody. */
  "user.banned": z.strictObject({
    userId: id.optional(),
    groupId: id.optional(),
    reason: z.string(),
    untilMs: z.int().min(0),
  }),
  "node.joined": node,
  "node.left": node,
  "node.died": node,
  /**
   * Events are missing. `reset: true`: everybody who is present is told again behind it, so a receiver forgets what it
   * knew. Otherwise `count` events of `bytes` together, from `fromMs` to `toMs`, were given up for the endpoint.
   */
  "hooks.gap": z.strictObject({
    reason: z.enum(["lost", "age", "size"]),
    reset: z.boolean(),
    endpoint: z.string().optional(),
    count: z.int().min(0).optional(),
    bytes: z.int().min(0).optional(),
    fromMs: z.int().min(0).optional(),
    toMs: z.int().min(0).optional(),
  }),
} as const;

export type EventKind = keyof typeof eventData;
export const eventKinds = Object.keys(eventData) as EventKind[];

export type EventData<K extends EventKind = EventKind> = z.output<typeof eventData[K]>;

export interface HookEvent {
  /** Where it stands in the stream, `<ms>-<n>`: later events have larger ones, see {@linkcode comparePositions}. */
  readonly position: string;
  readonly kind: EventKind;
  /** `user:5`, `group:10`, `node:spear1` or `hooks:`. Events of one subject are delivered in their order. */
  readonly subject: string;
  /** Unix milliseconds on the store's clock. */
  readonly timeMs: number;
  readonly data: EventData;
}

/**
 * An entry of the stream `gru_stat_events`: `k` kind, `s` subject, `t` Unix ms, `d` data as JSON. Undefined: a kind
 * that only a later version knows, or data that are not of this kind.
 */
export function eventOf(position: string, fields: readonly string[]): HookEvent | undefined {
  const entry: Record<string, string | undefined> = {};
  for (let i = 0; i < fields.length; i += 2) entry[fields[i] ?? ""] = fields[i + 1];
  const { k: kind = "", s: subject, t, d = "" } = entry;
  if (!isEventKind(kind) || subject === undefined) return undefined;
  const data = eventData[kind].safeParse(parsed(d));
  if (!data.success) return undefined;
  return { position, kind, subject, timeMs: Number(t), data: data.data };
}

/** The fields of an entry, as {@linkcode eventOf} reads them. */
export function fieldsOf({ kind, subject, timeMs, data }: Omit<HookEvent, "position">): string[] {
  return ["k", kind, "s", subject, "t", `${timeMs}`, "d", JSON.stringify(data)];
}

/** Negative: `a` is before `b`. */
export function comparePositions(a: string, b: string): number {
  const [aMs = 0, aN = 0] = a.split("-").map(Number);
  const [bMs = 0, bN = 0] = b.split("-").map(Number);
  return aMs - bMs || aN - bN;
}

function isEventKind(kind: string): kind is EventKind {
  return Object.hasOwn(eventData, kind);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
