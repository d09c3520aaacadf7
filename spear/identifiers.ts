/**
 * The forms of ids, for every place where one comes in: socket.io events, tokens, tickets, RPC, stat's HTTP API, the console.
 * Knows nothing of any of them, and needs no package, so that it runs at the edge too.
 *
 * An id is compared as it is, code point by code point. Nothing is normalised: `é` as one letter and `é` as a letter with a
 * combining mark are two ids, and a client gets an id back as it sent it. Whoever makes ids makes them in one form, best NFC.
 */

/** In its canonical spelling: a number as its decimal string. */
export const userIdPattern = /^[1-9]\d{0,18}$/;

/**
 * Letters with their combining marks, without which many scripts cannot be written. `.` and `..` are none: in the path of a URL they
 * mean other things, however they are escaped, so no HTTP client could name them.
 */
export const groupIdPattern = /^(?!\.{1,2}$)[\p{L}\p{M}\p{N}_.:@/-]{1,128}$/u;

/** For messages, behind "expected ". */
export const expectedUserId = "a user id: a positive integer of up to 19 digits";
export const expectedGroupId =
  "a group id: 1 to 128 letters with their marks, digits and _ . : @ / -, but not . or .. alone";

export function isUserId(value: unknown): value is string {
  return typeof value === "string" && userIdPattern.test(value);
}

export function isGroupId(value: unknown): value is string {
  return typeof value === "string" && groupIdPattern.test(value);
}
