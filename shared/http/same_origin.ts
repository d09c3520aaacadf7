/**
 * Protects a port from pages of other sites: what a browser inside the network can reach, a page in it can reach as
 * well. Such a page is recognised by `Origin` and `Sec-Fetch-Site`, which it cannot change. A page whose own name
 * points to this machine (DNS rebinding) is recognised by `Host`. Programs other than browsers send neither of the
 * first two.
 */
import { refusal } from "./body.ts";

export interface SameOriginOptions {
  /**
   * Host names and addresses of this port, without a port, in addition to this machine's own (localhost, 127.0.0.1,
   * [::1]).
   */
  readonly names: readonly string[];
  /**
   * Names of proxies before this port: `Host` may be one of them, and pages under these names are ours, whatever the
   * proxy's port.
   */
  readonly allowedHosts?: readonly string[];
  /**
   * True: `Host` must be one of the names. For ports that need no key: only the name distinguishes a page under a
   * foreign name from one of ours. When a key is needed, such a page does not have it, so any name is allowed.
   */
  readonly namesOnly: boolean;
  /** Paths that links on other sites may open in a browser. Default: none. */
  readonly linked?: readonly string[];
}

/** undefined: the request is allowed. */
export type Guard = (request: Request) => Response | undefined;

export function sameOrigin(options: SameOriginOptions): Guard {
  const { names, allowedHosts = [], namesOnly, linked = [] } = options;
  const ofProxies = namesOf(allowedHosts);
  const own = new Set([...namesOf(names), ...ofProxies]);
  const isOwn = (name: string | undefined) =>
    name !== undefined && (own.has(name) || isThisMachine(name));
  /** The last authority that was accepted: callers rarely change theirs. */
  let known = "";

  function isOwnAuthority(authority: string): boolean {
    if (authority === known) return true;
    if (!isOwn(hostName(authority))) return false;
    known = authority;
    return true;
  }

  function originProblem(request: Request, site: string | null, host: string): string | undefined {
    const { headers } = request;
    const origin = headers.get("origin");
    if (origin === null) return undefined;
    const authority = /^https?:\/\/([^/]*)$/.exec(origin)?.[1]?.toLowerCase();
    if (authority === host) return undefined;
    if (!namesOnly) {
      // A proxy may have changed the name; then the browser or the proxy sends the original one. No foreign page can
      // send the latter.
      if (site === "same-origin") return undefined;
      if (authority !== undefined && authority === headers.get("x-forwarded-host")?.toLowerCase()) {
        return undefined;
      }
    }
    const name = authority === undefined ? undefined : hostName(authority);
    if (name !== undefined && ofProxies.has(name)) return undefined;
    return `Origin: is ${shown(origin)}; expected none, or a page of this port`;
  }

  return (request) => {
    const { headers, url } = request;
    const begin = url.indexOf("//") + 2;
    const end = url.indexOf("/", begin);
    const authority = url.slice(begin, end < 0 ? undefined : end).toLowerCase();
    const host = headers.get("host")?.toLowerCase() ?? authority;
    if (namesOnly && !(isOwnAuthority(host) && isOwnAuthority(authority))) {
      return forbidden(
        `Host: is ${shown(host)}; expected an address of this machine, or a name in allowedHosts`,
      );
    }
    const site = headers.get("sec-fetch-site");
    if (site === null && !headers.has("origin")) return undefined;
    if (site !== null && site !== "same-origin" && site !== "none") {
      if (isLink(request, linked)) return undefined;
      return forbidden(`Sec-Fetch-Site: is ${shown(site)}; expected none, or a page of this port`);
    }
    const problem = originProblem(request, site, host);
    return problem === undefined ? undefined : forbidden(problem);
  };
}

/** A person followed a link to a page of ours: the other site sees nothing of it. */
function isLink({ method, headers, url }: Request, linked: readonly string[]): boolean {
  return method === "GET" && headers.get("sec-fetch-mode") === "navigate" &&
    headers.get("sec-fetch-dest") === "document" && linked.includes(new URL(url).pathname);
}

/** Without the port, as `URL` writes it: lower case, one form for each address. undefined: not a valid authority. */
function hostName(authority: string): string | undefined {
  if (!/^([^/?#@\\:\s]+|\[[0-9a-f:.]+\])(:\d{1,5})?$/i.test(authority)) return undefined;
  try {
    return new URL(`http://${authority}`).hostname;
  } catch {
    return undefined;
  }
}

function namesOf(hosts: readonly string[]): Set<string> {
  return new Set(
    hosts.flatMap((host) =>
      hostName(host.includes(":") ? `[${host.replace(/^\[|\]$/g, "")}]` : host) ?? []
    ),
  );
}

function isThisMachine(name: string): boolean {
  return name === "localhost" || name === "[::1]" || /^127(\.\d{1,3}){3}$/.test(name);
}

function shown(value: string): string {
  return JSON.stringify(value.slice(0, 120));
}

function forbidden(message: string): Response {
  return refusal(403, "forbidden", message);
}
