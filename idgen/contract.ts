/** The contract of idgen: 64-bit snowflake ids, as decimal strings because a JSON number cannot hold them. */
import { z } from "zod";
import { defineContract } from "@gru/shared/rpc/contract";

// Pure functions, for a program that runs alone and makes its own ids.
export { decodeId, Snowflake } from "./snowflake.ts";

export const maxIdsPerCall = 10_000;

export const decimalId = z.string().regex(/^(0|[1-9]\d{0,18})$/, {
  error: "expected a decimal id of up to 19 digits",
});

export const idgenContract = defineContract("idgen", {
  /** `count` new ids, ascending. */
  next: {
    input: z.strictObject({ count: z.number().int().min(1).max(maxIdsPerCall) }),
    output: z.object({
      ids: z.array(decimalId),
      /** `unique`: they may be kept for a moment before they are used. Earlier versions do not say it. */
      order: z.enum(["strict", "unique"]).optional(),
    }),
    // A repeated call returns new ids. The ids of the first call are then never used.
    idempotent: true,
    often: true,
  },
  /** The parts of an id: Unix milliseconds, worker 0–1023, sequence 0–4095. */
  decode: {
    input: z.strictObject({ id: decimalId }),
    output: z.object({ timeMs: z.number(), worker: z.number(), sequence: z.number() }),
    idempotent: true,
  },
  /** One id. Clients of the old Gru call this method. */
  getMsgId: {
    input: z.strictObject({}),
    output: z.object({ id: decimalId }),
    idempotent: true,
  },
  /** What this node issues now; the console asks while the registry cannot tell. */
  status: {
    input: z.strictObject({}),
    output: z.object({
      /** The worker of its ids. null: it issues none. */
      worker: z.number().nullable(),
      /** The ids were reserved before the registry went away. */
      withoutRegistry: z.boolean(),
      /** How long it can issue ids without the registry. */
      reservedMs: z.number(),
    }),
    idempotent: true,
  },
  getServiceVersion: {
    input: z.strictObject({}),
    output: z.object({ version: z.string() }),
    idempotent: true,
  },
});

export type IdgenContract = typeof idgenContract;
