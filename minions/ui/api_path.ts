/** Paths of stat's HTTP API, under which the console forwards to it. */

/**
 * Names as segments of a path of stat's HTTP API.
 * @throws {Error} for a name that a browser would resolve (. and ..), however it is escaped: the path would be a
 * different one.
 */
export function apiPath(...names: readonly string[]): string {
  const lost = names.find((name) => name === "" || name === "." || name === "..");
  if (lost !== undefined) throw new Error(`"${lost}" is not an id`);
  return ["/api", ...names.map(encodeURIComponent)].join("/");
}
