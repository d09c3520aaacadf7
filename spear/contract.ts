/** What the other programs know of spear: how it appears in the registry. */
import type { Instance } from "@gru/shared/registry";

/** The service under which spears register. */
export const spearService = "spear";

/** The kind of address that clients are told; the others are for the inside. */
export const clientAddress = "client";

/** The live spears, and where clients find them: `http://host:port`. */
export function spearNodes(instances: readonly Instance[]): { name: string; addr: string }[] {
  return instances.flatMap(({ name, addresses }) => {
    const addr = addresses[clientAddress];
    return addr === undefined ? [] : [{ name, addr }];
  });
}
