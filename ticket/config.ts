/** ticket's profile. */
import { z } from "zod";
import { secret } from "@gru/shared/config";
import { nodeShape } from "@gru/shared/node";
import { schemeNames } from "./token.ts";

export const ticketConfig = z.strictObject({
  ...nodeShape,
  auth: z.strictObject({
    scheme: schemeNames,
    saltToTicket: secret("GRU_SALT_TOTICKET").describe("scheme gru: the salt of token1"),
    saltToSpear: secret("GRU_SALT_TOSPEAR").describe("scheme gru: the salt of token2"),
  }).superRefine((auth, context) => {
    if (auth.scheme !== "gru") return;
    for (const key of ["saltToTicket", "saltToSpear"] as const) {
      if (auth[key] !== undefined) continue;
      context.addIssue({ code: "custom", path: [key], message: "scheme gru wants this salt" });
    }
  }),
});

export type TicketConfig = z.output<typeof ticketConfig>;
