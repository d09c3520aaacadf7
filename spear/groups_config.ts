/** The part of spear's profile named `groups`: what differs for groups of a kind. */
import { z } from "zod";
import { allows } from "@gru/ticket/token";
import { patternSchema } from "@gru/ticket/contract";

const kind = z.strictObject({
  match: patternSchema("a group id"),
  /** False: nobody is told who comes and goes, and nobody may list the users. */
  presence: z.boolean().default(true),
  /** False: the connection that sends a message is told its position only. */
  echo: z.boolean().default(true),
  /** Users that may be in such a group, on all nodes together. */
  members: z.int().min(1).optional(),
});

export const groupsSchema = z.array(kind.meta({ unknownKeys: "refuse" })).default([]).describe(
  "options of groups of a kind: { match, presence, echo, members }; the first whose match fits a group holds; in a file only",
);

export type GroupOptions = Omit<z.output<typeof kind>, "match">;

/** Groups whose options are remembered, at most. */
const rememberedAtMost = 10_000;

export class GroupKinds {
  readonly #kinds: z.output<typeof groupsSchema>;
  readonly #known = new Map<string, GroupOptions | undefined>();

  constructor(kinds: z.output<typeof groupsSchema>) {
    this.#kinds = kinds;
  }

  /** Undefined: nothing differs. */
  of(groupId: string): GroupOptions | undefined {
    const known = this.#known.get(groupId);
    if (known !== undefined || this.#known.has(groupId)) return known;
    const options = this.#kinds.find(({ match }) => allows([match], groupId));
    if (this.#known.size >= rememberedAtMost) this.#known.clear();
    this.#known.set(groupId, options);
    return options;
  }
}

/** Undefined: the profile names none. */
export function groupKinds(kinds: z.output<typeof groupsSchema>): GroupKinds | undefined {
  return kinds.length === 0 ? undefined : new GroupKinds(kinds);
}
