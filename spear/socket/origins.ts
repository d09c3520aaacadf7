/**
 * Which web pages may talk to a spear. A browser says where a request comes from; a client that is none says
 * nothing.
 */
import type { IncomingHttpHeaders } from "node:http";

export interface Asked {
  readonly headers: Readonly<IncomingHttpHeaders>;
  /** Of the query. */
  readonly parameters: Readonly<Record<string, string>>;
}

/**
 * Why a request is refused; undefined: it may go on. For every request, as a handshake may have come from elsewhere.
 * @param origins those that may; `*` among them: all
 */
export function originRefusal(
  { headers, parameters }: Asked,
  origins: readonly string[],
): string | undefined {
  if (origins.includes("*")) return undefined;
  // Answers as a script: any page can load it, and its browser names no origin.
  if (Object.hasOwn(parameters, "j")) return "JSONP is refused where origins are limited";
  const { origin } = headers;
  if (origin !== undefined) {
    return origins.includes(origin) ? undefined : "this origin may not connect";
  }
  const site = headers["sec-fetch-site"];
  // Of the browser's own accord, from our own pages, or from something that is no browser.
  if (site === undefined || site === "none" || site === "same-origin") return undefined;
  return "a request from another site needs an allowed origin";
}
