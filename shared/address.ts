/**
 * Addresses in profiles, with one grammar for every key. A host is a name, an IPv4 address or an IPv6 address. If a
 * port follows, an IPv6 address is written in brackets, as in URLs.
 */
import { z } from "zod";

export interface HostAndPort {
  /** Without brackets, as sockets expect it. */
  readonly host: string;
  readonly port: number;
}

/** Parses `host:port` or `[::1]:port`; undefined for anything else. */
export function parseHostAndPort(text: string): HostAndPort | undefined {
  const [, host = "", port = ""] = /^(.*):(\d{1,5})$/.exec(text) ?? [];
  // Without brackets the end of an IPv6 address is ambiguous.
  if (host.includes(":") !== host.startsWith("[")) return undefined;
  if (!isHost(bare(host)) || Number(port) < 1 || Number(port) > 65_535) return undefined;
  return { host: bare(host), port: Number(port) };
}

/** Formatted as in a URL. */
export function formatHostAndPort({ host, port }: HostAndPort): string {
  return `${bracketed(host)}:${port}`;
}

/** The host as written in a URL. */
export function bracketed(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}

function bare(host: string): string {
  return host.replace(/^\[(.*)\]$/, "$1");
}

/** True for a name or an address, without brackets and port. */
export function isHost(host: string): boolean {
  // The zone of a link-local address has a meaning on its own machine only; a URL cannot contain it.
  const [address = "", zone] = host.split("%");
  if (host.includes(":")) {
    return URL.canParse(`http://[${address}]/`) && (zone === undefined || /^[\w.-]+$/.test(zone));
  }
  return /^[^\s:/?#@,%\[\]\\]+$/.test(host);
}

/**
 * True for an address that means all addresses of a machine, also written as `0`, `::0` or `[::]`. Nobody can connect
 * to it.
 */
export function isWildcard(host: string): boolean {
  const url = `http://${bracketed(bare(host))}/`;
  if (!URL.canParse(url)) return false;
  return ["0.0.0.0", "[::]", "[::ffff:0:0]"].includes(new URL(url).hostname);
}

const expectedHost = "expected a host name or an IP address, without a port";

/** An address to listen on, or one of this program for others; brackets are removed. */
export function hostSchema() {
  return z.string().min(1).overwrite(bare).refine(isHost, { error: expectedHost });
}

/** An address of this program for others. */
export function reachableHostSchema() {
  return hostSchema().refine((host) => !isWildcard(host), {
    error: "expected a host that others can connect to; this one means all addresses of a machine",
  });
}

/** `http://host:port` for clients. */
export function reachableUrlSchema() {
  const error = "expected http://host:port or https://host:port, an IPv6 address in brackets";
  return z.string().regex(/^https?:\/\/[^/?#\s]+$/, { error })
    .refine((url) => URL.canParse(url) && new URL(url).port !== "0", { error })
    .refine((url) => !URL.canParse(url) || !isWildcard(new URL(url).hostname), {
      error:
        "expected a host that clients can connect to; this one means all addresses of a machine",
    });
}
