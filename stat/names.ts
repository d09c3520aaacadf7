/** Sorts names by their code points, which is the order of their UTF-8 bytes, and so Redis's order. */

export function compareNames(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const [x, y] = [a.charCodeAt(i), b.charCodeAt(i)];
    if (x === y) continue;
    // Surrogates stand for code points above all others, although their numbers are lower.
    return isSurrogate(x) === isSurrogate(y) ? x - y : isSurrogate(x) ? 1 : -1;
  }
  return a.length - b.length;
}

function isSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdfff;
}

/** The first `limit` names that begin with `prefix` and follow `after`; checks each name once. */
export function firstNames(
  names: Iterable<string>,
  { prefix, after, limit }: {
    readonly prefix: string;
    readonly after: string;
    readonly limit: number;
  },
): string[] {
  const first: string[] = [];
  for (const name of names) {
    if (!name.startsWith(prefix) || compareNames(name, after) <= 0) continue;
    const last = first.at(-1);
    if (first.length === limit && last !== undefined && compareNames(name, last) > 0) continue;
    let [low, high] = [0, first.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compareNames(first[middle] ?? "", name) < 0) low = middle + 1;
      else high = middle;
    }
    first.splice(low, 0, name);
    if (first.length > limit) first.pop();
  }
  return first;
}
