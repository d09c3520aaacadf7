/** What the other programs know of spear: how it appears in the registry. */
import type { Instance } from "@gru/shared/registry";

/** The service under which spears register. */
export const spearService = "spear";

/** The kind of address that clients are told; the others are for the inside. */
export const clientAddress = "client";

export interface SpearNode {
  /** `spear1` */
  readonly name: string;
  /** Where clients find it: `http://host:port`. */
  readonly addr: string;
  /** Its share of the users beside the others'; 0: it takes no new ones. Missing: 1. */
  readonly weight?: number;
  /** Connections, as of about a second ago. */
  readonly load?: number;
  /** Connections that it takes. */
  readonly capacity?: number;
}

/** What a spear tells of itself in its `meta`. */
const told = ["weight", "load", "capacity"] as const;

/** The live spears. */
export function spearNodes(instances: readonly Instance[]): SpearNode[] {
  return instances.flatMap(({ name, addresses, meta }) => {
    const addr = addresses[clientAddress];
    if (addr === undefined) return [];
    const numbers = told.flatMap((key) => {
      const value = meta[key];
      return typeof value === "number" && value >= 0 ? [[key, value]] : [];
    });
    return [{ name, addr, ...Object.fromEntries(numbers) }];
  });
}
