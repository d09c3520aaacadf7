/**
 * The named users of the console, `GRU_MINIONS_USERS`: `name:role:salt:hash`, separated by commas. `deno task hash` makes
 * one of them from a password. scrypt makes guessing slow for somebody who has found the hashes.
 */
import { scrypt, timingSafeEqual } from "node:crypto";

/** `act` may do everything that `look` may. */
export type Role = "look" | "act";

export interface User {
  readonly name: string;
  readonly role: Role;
  readonly salt: string;
  readonly hash: string;
}

const bytes = 32;
const userPattern = /^([\p{L}\p{N}._@-]{1,64}):(look|act):([\da-f]{32}):([\da-f]{64})$/u;

/** @returns undefined where one of them is none */
export function readUsers(text: string): User[] | undefined {
  const users = text.split(",").map((one) => userPattern.exec(one.trim()));
  if (users.some((match) => match === null)) return undefined;
  return users.flatMap((match) => {
    const [, name = "", role, salt = "", hash = ""] = match ?? [];
    return [{ name, role: role as Role, salt, hash }];
  });
}

/** The text of a user for `GRU_MINIONS_USERS`. */
export async function newUser(name: string, role: Role, password: string): Promise<string> {
  const salt = crypto.getRandomValues(new Uint8Array(16)).toHex();
  return `${name}:${role}:${salt}:${(await derive(password, salt)).toHex()}`;
}

/** Takes as long for a name that nobody has. */
export async function isPasswordOf(user: User | undefined, password: string): Promise<boolean> {
  const { salt, hash } = user ?? { salt: "0".repeat(32), hash: "0".repeat(64) };
  const isSame = timingSafeEqual(await derive(password, salt), Uint8Array.fromHex(hash));
  return isSame && user !== undefined;
}

/** On a thread of its own: the console goes on meanwhile. */
function derive(password: string, salt: string): Promise<Uint8Array> {
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
  scrypt(password, salt, bytes, (error, key) => error ? reject(error) : resolve(key));
  return promise;
}
