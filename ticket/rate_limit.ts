/** So many a second for each key, and as many seconds' worth at once: one number per key (GCRA). */

export interface RateLimitOptions {
  readonly perSecond: number;
  /** As many at once. */
  readonly burst: number;
  /** More keys than these are not remembered: the oldest goes. */
  readonly maxKeys: number;
}

export class KeyedRateLimit {
  readonly #options: RateLimitOptions;
  /** When the key's bucket will be full again, on the clock of `nowMs`. In the order of their last use. */
  readonly #fullAt = new Map<string, number>();

  constructor(options: RateLimitOptions) {
    this.#options = options;
  }

  /** 0: taken. Else nothing was taken, and it is worth trying again after so many milliseconds. */
  take(key: string, nowMs: number): number {
    const { perSecond, burst, maxKeys } = this.#options;
    const stepMs = 1000 / perSecond;
    const fullAt = Math.max(this.#fullAt.get(key) ?? 0, nowMs);
    const waitMs = fullAt + stepMs - nowMs - burst * stepMs;
    if (waitMs > 1e-6) return waitMs;
    this.#fullAt.delete(key);
    this.#fullAt.set(key, fullAt + stepMs);
    if (this.#fullAt.size > maxKeys) {
      const [oldest] = this.#fullAt.keys();
      if (oldest !== undefined) this.#fullAt.delete(oldest);
    }
    return 0;
  }
}

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
