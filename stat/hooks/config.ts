/** The part of stat's profile named `hooks`. */
import { z } from "zod";
import { secret } from "@gru/shared/config";
import { urlProblem } from "@gru/shared/webhooks/address";
import { secretsProblem } from "@gru/shared/webhooks/signature";
import { patternSchema } from "@gru/ticket/contract";
import { type EventKind, eventKinds } from "./event.ts";

const kinds = z.enum(eventKinds as [typeof eventKinds[number], ...typeof eventKinds]);
const match = patternSchema("an id");

const endpoint = z.strictObject({
  name: z.string().regex(/^[\w-]{1,64}$/, "expected 1 to 64 letters, digits, _ or -"),
  url: z.string(),
  events: z.array(kinds).min(1).optional(),
  match: z.array(match).min(1).optional(),
  secretVariable: z.string()
    .regex(/^GRU_HOOKS_SECRET_[A-Z0-9_]{1,64}$/, "expected GRU_HOOKS_SECRET_ and A to Z, 0 to 9, _")
    .optional(),
  timeoutMs: z.int().min(100).max(60_000).default(10_000),
  allowPrivate: z.boolean().default(false),
}).superRefine(({ url, allowPrivate }, context) => {
  const problem = urlProblem(url, allowPrivate);
  if (problem !== undefined) context.addIssue({ code: "custom", path: ["url"], message: problem });
}).meta({ unknownKeys: "refuse" });

export type EndpointConfig = z.output<typeof endpoint>;

export const hooksSchema = z.strictObject({
  enabled: z.boolean().default(false).describe(
    "events are made also without endpoints, for GET /events",
  ),
  graceMs: z.int().min(0).max(3_600_000).default(10_000).describe(
    "milliseconds that a user or member must be away before that is an event",
  ),
  keepMs: z.int().min(1000).max(30 * 86_400_000).default(86_400_000)
    .describe("milliseconds for which events are kept and sending is tried"),
  maxBytes: z.int().min(100_000).default(100_000_000)
    .describe(
      "memory of Redis that events may take; more: the oldest are given up, and an event says so",
    ),
  source: z.string().min(1).max(256).default("gru").describe("source of the events (CloudEvents)"),
  secret: secret("GRU_HOOKS_SECRET").describe(
    "signs what is sent to the endpoints, whsec_ and base64; several divided by commas: all sign",
  ),
  endpoints: z.array(endpoint).max(100).default([]).describe(
    "who is told: { name, url, events (default: all), match (ids of groups or users; default: all), secretVariable (a variable in place of GRU_HOOKS_SECRET), timeoutMs, allowPrivate }; in a file only",
  ),
}).superRefine(({ secret, endpoints }, context) => {
  const problem = secret !== undefined
    ? secretsProblem(secret)
    : endpoints.some(({ secretVariable }) => secretVariable === undefined)
    ? "hooks.endpoints need this secret"
    : undefined;
  if (problem !== undefined) {
    context.addIssue({ code: "custom", path: ["secret"], message: problem });
  }
  const names = endpoints.map(({ name }) => name);
  for (const [i, name] of names.entries()) {
    if (names.indexOf(name) === i) continue;
    const message = `"${name}" is the name of two endpoints`;
    context.addIssue({ code: "custom", path: ["endpoints", i, "name"], message });
  }
}).prefault({});

export type HooksConfig = z.output<typeof hooksSchema>;

export function hooksAreOn({ enabled, endpoints }: HooksConfig): boolean {
  return enabled || endpoints.length > 0;
}

/** Whether anybody wants events of messages, which cost more than all others. */
export function messagesAreWanted({ enabled, endpoints }: HooksConfig): boolean {
  const kinds: readonly EventKind[] = ["message.accepted", "message.unattended"];
  return enabled ||
    endpoints.some(({ events }) =>
      events === undefined || kinds.some((one) => events.includes(one))
    );
}
