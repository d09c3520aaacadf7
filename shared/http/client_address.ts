/**
 * The client's address. Each proxy appends to `X-Forwarded-For` the address that it saw. With `trustedHops` trusted
 * proxies, the client's address is that many places from the end; everything before it may be forged.
 * @param peer the remote address of the connection
 */
export function clientAddress(
  forwardedFor: string | undefined,
  peer: string,
  trustedHops: number,
): string {
  const list = (forwardedFor ?? "").split(",").map((part) => part.trim()).filter(Boolean);
  const forwarded = trustedHops === 0 ? undefined : list.at(-trustedHops);
  return network(forwarded ?? peer);
}

/** One IPv6 customer has 2^64 addresses, so they count as one network. */
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
