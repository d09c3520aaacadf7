/** What the other programs know of spear: how it appears in the registry. */

/** The service under which spears register. */
export const spearService = "spear";

/** The kind of address that clients are told; the others are for the inside. */
export const clientAddress = "client";
