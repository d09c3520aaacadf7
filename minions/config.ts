/** minions' profile. */
import { z } from "zod";
import { nodeShape } from "@gru/shared/node";

export const minionsConfig = z.strictObject(nodeShape);

export type MinionsConfig = z.output<typeof minionsConfig>;
