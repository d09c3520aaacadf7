/**
 * Whom a request comes from. Each proxy appends to `X-Forwarded-For` the address that it saw: of `trustedHops` proxies of
 * ours the outermost one's word is the one so many from the end; what stands before it anybody may have written.
 * @param peer the other end of the connection
 */
export function clientAddress(
  forwardedFor: string | undefined,
  peer: string,
  trustedHops: number,
): string {
  const list = (forwardedFor ?? "").split(",").map((part) => part.trim()).filter(Boolean);
  const told = trustedHops === 0 ? undefined : list.at(-trustedHops);
  return network(told ?? peer);
}

/** Who has one address of IPv6 has 2^64 of them. */
function network(address: string): string {
  const bare = address.replace(/^\[|\]$/g, "").replace(/%.*$/, "").toLowerCase();
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(bare)?.[1];
  if (mapped !== undefined) return mapped;
  if (!bare.includes(":")) return bare.slice(0, 64);
  const [head = "", tail = ""] = bare.split("::");
  const first = head === "" ? [] : head.split(":");
  const last = tail === "" ? [] : tail.split(":");
  const gap = bare.includes("::") ? Math.max(0, 8 - first.length - last.length) : 0;
  const groups = [...first, ...Array<string>(gap).fill("0"), ...last].slice(0, 4);
  return `${groups.map((group) => group.slice(0, 4).replace(/^0+(?=.)/, "")).join(":")}::/64`;
}
