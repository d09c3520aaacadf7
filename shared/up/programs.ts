/** The programs with their schemas and profiles: what pages, JSON Schemas and tests of all profiles are made from. */
import type { z } from "zod";
import { idgenSchema } from "../../idgen/idgen.ts";
import { minionsSchema } from "../../minions/minions.ts";
import { spearSchema } from "../../spear/config.ts";
import { statSchema } from "../../stat/stat.ts";
import { ticketSchema } from "../../ticket/ticket.ts";
import { upSchema } from "./up.ts";

export interface ProgramProfiles {
  readonly name: string;
  readonly schema: z.ZodObject;
  readonly profiles: URL;
}

/** In the order of a message's way through them; `up` runs them all in one process. */
export const programs: readonly ProgramProfiles[] = [
  { name: "ticket", schema: ticketSchema },
  { name: "spear", schema: spearSchema },
  { name: "stat", schema: statSchema },
  { name: "idgen", schema: idgenSchema },
  { name: "minions", schema: minionsSchema },
  { name: "up", schema: upSchema },
].map(({ name, schema }) => ({
  name,
  schema,
  profiles: new URL(
    name === "up" ? "./profiles/" : `../../${name}/profiles/`,
    import.meta.url,
  ),
}));
