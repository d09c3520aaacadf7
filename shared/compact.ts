/**
 * A set and a map for collections that nearly always have one element: a user's connections, a connection's groups.
 * They allocate a table, 120 bytes of it, only for the second element.
 */

export type ReadonlyCompactSet<T> = Iterable<T> & Pick<ReadonlySet<T>, "size" | "has">;

export class CompactSet<T extends object | string> implements ReadonlyCompactSet<T> {
  #only: T | undefined;
  #all: Set<T> | undefined;

  get size(): number {
    return this.#all?.size ?? (this.#only === undefined ? 0 : 1);
  }

  has(value: T): boolean {
    return this.#all?.has(value) ?? this.#only === value;
  }

  add(value: T): void {
    if (this.#all !== undefined) {
      this.#all.add(value);
    } else if (this.#only === undefined) {
      this.#only = value;
    } else if (this.#only !== value) {
      this.#all = new Set([this.#only, value]);
      this.#only = undefined;
    }
  }

  /** True when the value was there. */
  delete(value: T): boolean {
    if (this.#all !== undefined) return this.#all.delete(value);
    if (this.#only !== value) return false;
    this.#only = undefined;
    return true;
  }

  /** In insertion order. */
  [Symbol.iterator](): IterableIterator<T> {
    if (this.#all !== undefined) return this.#all.values();
    return (this.#only === undefined ? [] : [this.#only]).values();
  }
}

export class CompactMap<K extends object | string, V> implements Iterable<[K, V]> {
  #key: K | undefined;
  #value: V | undefined;
  #all: Map<K, V> | undefined;

  constructor(entries: Iterable<readonly [K, V]>) {
    for (const [key, value] of entries) this.set(key, value);
  }

  get size(): number {
    return this.#all?.size ?? (this.#key === undefined ? 0 : 1);
  }

  has(key: K): boolean {
    return this.#all?.has(key) ?? this.#key === key;
  }

  get(key: K): V | undefined {
    if (this.#all !== undefined) return this.#all.get(key);
    return this.#key === key ? this.#value : undefined;
  }

  set(key: K, value: V): void {
    if (this.#all === undefined && this.#key !== undefined && this.#key !== key) {
      this.#all = new Map(this);
      this.#key = this.#value = undefined;
    }
    if (this.#all !== undefined) this.#all.set(key, value);
    else [this.#key, this.#value] = [key, value];
  }

  /** True when the key was there. */
  delete(key: K): boolean {
    if (this.#all !== undefined) return this.#all.delete(key);
    if (this.#key !== key) return false;
    this.clear();
    return true;
  }

  clear(): void {
    this.#key = this.#value = this.#all = undefined;
  }

  *values(): IterableIterator<V> {
    for (const [, value] of this) yield value;
  }

  /** In insertion order. */
  [Symbol.iterator](): IterableIterator<[K, V]> {
    if (this.#all !== undefined) return this.#all.entries();
    const entries: [K, V][] = this.#key === undefined ? [] : [[this.#key, this.#value as V]];
    return entries.values();
  }
}
