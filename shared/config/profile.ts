/** The file of a profile: JSON with comments (JSONC), by name from the program's folder or by its path. */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  getNodeValue,
  type Node,
  type ParseError,
  parseTree,
  printParseErrorCode,
} from "jsonc-parser";
import { ConfigError } from "./errors.ts";

export interface ProfileSource {
  readonly program: string;
  /** The folder of `<name>.json` files that come with the program. */
  readonly profiles: URL;
  readonly readFile?: (path: string) => string;
}

export interface ProfileFile {
  readonly values: Record<string, unknown>;
  readonly warnings: readonly string[];
}

/** @param profile a name, or a path: with a slash, or ending with .json or .jsonc. @throws {ConfigError} */
export function readProfile(source: ProfileSource, profile: string): ProfileFile {
  const { program, readFile = Deno.readTextFileSync } = source;
  const isPath = /[/\\]|\.jsonc?$/.test(profile);
  const refuse = (path: string, problem: string) =>
    new ConfigError(`${program}, profile ${profile}: ${isPath ? "" : `${path} `}${problem}`);
  if (!isPath && !/^[\w-]+$/.test(profile)) {
    throw new ConfigError(
      `${program}: profile ${
        JSON.stringify(profile)
      }: expected a name of letters, digits, _ and -, ` +
        "or the path of a .json file",
    );
  }
  const paths = isPath ? [profile] : placesOf(source, profile);
  for (const path of paths) {
    try {
      return parse(readFile(path), (problem) => refuse(path, problem));
    } catch (error) {
      if (error instanceof ConfigError) throw error;
      if (error instanceof Deno.errors.NotFound) continue;
      if (error instanceof Deno.errors.NotCapable) {
        throw refuse(path, `may not be read; ${permissionToRead(path)}`);
      }
      throw refuse(path, `cannot be read: ${error}`);
    }
  }
  throw new ConfigError(`${program}: no profile ${profile}; looked for ${paths.join(" and ")}`);
}

/** What gives a task the permission to read a file that is not the program's own. */
export function permissionToRead(path: string): string {
  return `set the environment variable GRU_PERMISSIONS=--allow-read=${path}`;
}

function placesOf({ program, profiles }: ProfileSource, name: string): string[] {
  // A compiled program reads the file beside itself first, so that it can be changed without a rebuild.
  const beside = Deno.build.standalone
    ? [join(dirname(Deno.execPath()), "profiles", program, `${name}.json`)]
    : [];
  return [...beside, fileURLToPath(new URL(`${name}.json`, profiles))];
}

function parse(text: string, refuse: (problem: string) => ConfigError): ProfileFile {
  // Editors on Windows begin a file with a byte order mark, which RFC 8259 (8.1) lets a reader ignore.
  const json = text.replace(/^\ufeff/, "");
  const errors: ParseError[] = [];
  const root = parseTree(json, errors, { allowTrailingComma: true });
  // The others follow from the first.
  const [error] = errors;
  if (error !== undefined || root === undefined) {
    const what = wordsOf(error === undefined ? "ValueExpected" : printParseErrorCode(error.error));
    throw refuse(`is not JSON: ${positionOf(json, error?.offset ?? 0)}: ${what}`);
  }
  if (root.type !== "object") throw refuse("is not a JSON object");
  const warnings = repeatedKeys(root).map(({ key, offset }) =>
    `the key ${key} is given again in ${positionOf(json, offset)}; this value is used`
  );
  return { values: getNodeValue(root), warnings };
}

/** `PropertyNameExpected`: property name expected */
function wordsOf(code: string): string {
  return code.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();
}

function positionOf(text: string, offset: number): string {
  const lines = text.slice(0, offset).split("\n");
  return `line ${lines.length}, column ${(lines.at(-1)?.length ?? 0) + 1}`;
}

function repeatedKeys(node: Node, prefix = ""): { key: string; offset: number }[] {
  const known = new Set<string>();
  return (node.type === "object" ? node.children ?? [] : []).flatMap((property) => {
    const [name, value] = property.children ?? [];
    const key = `${prefix}${name?.value}`;
    const again = known.has(key) ? [{ key, offset: property.offset }] : [];
    known.add(key);
    return [...again, ...(value === undefined ? [] : repeatedKeys(value, `${key}.`))];
  });
}
