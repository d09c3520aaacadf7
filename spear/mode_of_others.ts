/** Spears of versions that can only speak with spears of their own mode, and announce none. */
import type { Logger } from "@gru/shared/log";
import type { Instance } from "@gru/shared/registry/registry";

/** Warns of each such spear once. @returns what takes the spears that the registry shows, this one among them */
export function warnOfOldSpears(
  mode: string,
  log: Logger,
): (spears: readonly Pick<Instance, "name" | "meta">[]) => void {
  const told = new Set<string>();
  return (spears) => {
    for (const { name, meta } of spears) {
      if (meta["mode"] !== undefined || told.has(name)) continue;
      told.add(name);
      log.warn(
        "{name} is of a version that hears only spears of its own mode, and this one is in mode {mode}: unless both have the " +
          "same mode, messages between them are lost. Update {name} before any spear changes its mode",
        { name, mode },
      );
    }
  };
}
