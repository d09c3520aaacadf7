/** The part of spear's profile named `decisions`. */
import { z } from "zod";
import { secret } from "@gru/shared/config";
import { urlProblem } from "@gru/shared/webhooks/address";
import { secretsProblem } from "@gru/shared/webhooks/signature";
import { patternSchema } from "@gru/ticket/contract";

const match = patternSchema("a group id");

const rule = z.strictObject({
  match,
  url: z.string(),
  deadlineMs: z.int().min(10).max(30_000).default(1000),
  underWay: z.int().min(1).max(100_000).default(1000),
  onFailure: z.enum(["refuse", "allow"]).default("refuse"),
  allowPrivate: z.boolean().default(false),
});

function list<S extends z.ZodType<Pick<z.output<typeof rule>, "url" | "allowPrivate">>>(rule: S) {
  return z.array(
    rule.superRefine(({ url, allowPrivate }, context) => {
      const problem = urlProblem(url, allowPrivate);
      if (problem === undefined) return;
      context.addIssue({ code: "custom", path: ["url"], message: problem });
    }).meta({ unknownKeys: "refuse" }),
  ).default([]);
}

const fields = "{ match, url, deadlineMs, underWay, onFailure, allowPrivate }";

export const decisionsSchema = z.strictObject({
  secret: secret("GRU_DECISIONS_SECRET").describe(
    "signs the questions to the business system, whsec_ and base64; several divided by commas: all sign",
  ),
  subscribe: list(rule).describe(
    `who may join a group: ${fields}; the first whose match fits the group is asked; in a file only`,
  ),
  online: list(rule).describe(
    `who may list the users of a group: ${fields}; as decisions.subscribe`,
  ),
  beforeSend: list(rule.extend({ toUsers: z.boolean().default(false) })).describe(
    `what becomes of a client's message to a group, with toUsers also to a user: ${fields}; as decisions.subscribe`,
  ),
}).superRefine(({ secret, subscribe, online, beforeSend }, context) => {
  const isAsking = subscribe.length + online.length + beforeSend.length > 0;
  const problem = secret !== undefined
    ? secretsProblem(secret)
    : isAsking
    ? "decisions need this secret"
    : undefined;
  if (problem === undefined) return;
  context.addIssue({ code: "custom", path: ["secret"], message: problem });
}).prefault({});

export type DecisionsConfig = z.output<typeof decisionsSchema>;
