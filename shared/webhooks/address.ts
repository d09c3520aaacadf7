/** Which addresses a webhook may be sent to. Runs wherever JavaScript runs. */
import ipaddr from "ipaddr.js";

/** True for an IP address that anybody on the internet can have; false for all others, and for what is no address. */
export function isPublicAddress(address: string): boolean {
  // IPv4 inside IPv6 is judged as IPv4. Addresses that are translated to IPv4 on the way (NAT64, 6to4) are not public.
  if (!ipaddr.isValid(address)) return false;
  const parsed = ipaddr.process(address);
  // Of IPv6 only this eighth is given out. The rest holds old forms with an IPv4 address inside, such as ::7f00:1.
  return parsed.range() === "unicast" &&
    (parsed.kind() === "ipv4" || parsed.match(ipaddr.parseCIDR("2000::/3")));
}

/** The IP address that the URL names; undefined: it names a host. The URL parser has normalised forms like `0x7f.1`. */
export function addressOf(url: URL): string | undefined {
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  return ipaddr.isValid(host) ? host : undefined;
}

/** What is wrong with this URL of a webhook, for a profile; undefined: nothing. */
export function urlProblem(text: string, allowPrivate: boolean): string | undefined {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    return "expected http://… or https://…";
  }
  if (url.username !== "" || url.password !== "") {
    return "expected no user and password: every request is signed instead";
  }
  const address = addressOf(url);
  if (address === undefined || allowPrivate || isPublicAddress(address)) return undefined;
  return `${address} is not a public address; set allowPrivate to allow it`;
}
