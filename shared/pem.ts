/** The PEM files that profiles name. */
import { ConfigError } from "./config.ts";
import { permissionToRead } from "./config/profile.ts";

/** @throws {ConfigError} naming the key and the file that cannot be read. */
export function readPem(key: string, path: string): string {
  let text;
  try {
    text = Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) {
      throw new ConfigError(`${key}: ${path} may not be read; ${permissionToRead(path)}`);
    }
    throw new ConfigError(`${key}: cannot read ${path}: ${error}`);
  }
  if (text.includes("-----BEGIN ")) return text;
  throw new ConfigError(`${key}: ${path} is not a PEM file`);
}
