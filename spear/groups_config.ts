/** The part of spear's profile named `groups`: what differs for groups of a kind. */
import { z } from "zod";
import { historyBytes, type HistoryLimits } from "./broker/broker.ts";
import type { Target } from "./wire.ts";
import { allows } from "@gru/ticket/token";
import { patternSchema } from "@gru/ticket/contract";

/** What is kept of a target. */
export const historyShape = {
  size: z.int().min(0).max(1_000_000),
  bytes: z.int().min(0),
  ageMs: z.int().min(1000),
};

const kind = z.strictObject({
  match: patternSchema("a group id"),
  /** False: nobody is told who comes and goes, and nobody may list the users. */
  presence: z.boolean().default(true),
  /** False: the connection that sends a message is told its position only. */
  echo: z.boolean().default(true),
  /** Users that may be in such a group, on all nodes together. */
  members: z.int().min(1).optional(),
  /** Messages that such a group takes each second, from all nodes together. */
  messagesPerSecond: z.number().min(0.01).max(100_000).optional(),
  /** True: what is above it is dropped, and its sender told so; else it is refused. */
  drop: z.boolean().default(false),
  /** True: messages are delivered and not kept, and have no `seq`. */
  ephemeral: z.boolean().default(false),
  /** What is left out is as in the profile's `history`. */
  history: z.strictObject(historyShape).partial().meta({ unknownKeys: "refuse" }).optional(),
});

export const groupsSchema = z.array(
  kind.refine(({ drop, messagesPerSecond }) => !drop || messagesPerSecond !== undefined, {
    path: ["drop"],
    error: "expected messagesPerSecond beside it: nothing else is dropped",
  }).meta({ unknownKeys: "refuse" }),
).default([]).describe(
  "options of groups of a kind: { match, presence, echo, members, history, messagesPerSecond, drop, ephemeral }; the first whose match fits a group holds; in a file only",
);

export interface GroupOptions extends Omit<z.output<typeof kind>, "match" | "history"> {
  readonly history: HistoryLimits;
}

interface KindsConfig {
  readonly groups: z.output<typeof groupsSchema>;
  readonly history: HistoryLimits;
}

/** Groups whose options are remembered, at most. */
const rememberedAtMost = 10_000;

export class GroupKinds {
  readonly #kinds: readonly (Pick<z.output<typeof kind>, "match"> & GroupOptions)[];
  readonly #history: HistoryLimits;
  readonly #known = new Map<string, GroupOptions | undefined>();

  constructor({ groups, history }: KindsConfig) {
    this.#history = history;
    this.#kinds = groups.map((kind) => {
      const { size = history.size, ageMs = history.ageMs, bytes = history.bytes } = kind.history ??
        {};
      const kept = kind.ephemeral ? 0 : size;
      return { ...kind, history: { size: kept, ageMs, bytes: bytes ?? historyBytes } };
    });
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

  /** As {@linkcode of}; of a user nothing differs. */
  ofTarget(target: Target): GroupOptions | undefined {
    return target.startsWith("g:") ? this.of(target.slice(2)) : undefined;
  }

  /** What is kept of it. */
  readonly historyOf = (target: Target): HistoryLimits =>
    this.ofTarget(target)?.history ?? this.#history;
}

/** Undefined: the profile names none. */
export function groupKinds(config: KindsConfig): GroupKinds | undefined {
  return config.groups.length === 0 ? undefined : new GroupKinds(config);
}
