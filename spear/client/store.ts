/** What survives a reload of the page. */
import { GruError } from "./errors.ts";
import type { Outgoing } from "./outbox.ts";
import type { KeyValueStorage, Position } from "./types.ts";
import type { Way } from "./wire.ts";
import { textOf } from "./text.ts";

export interface Kept {
  readonly resume?: Way | undefined;
  readonly own?: Position | undefined;
  /** By group. */
  readonly groups: readonly (readonly [string, Position])[];
  readonly outbox: readonly Outgoing[];
}

/** Writing is slow where messages are many; a page that is left in order writes at once. */
const writeAfterMs = 100;

export class Store {
  readonly #storage: KeyValueStorage | undefined;
  readonly #key: string;
  readonly #collect: () => Kept;
  readonly #onError: (error: GruError) => void;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    storage: KeyValueStorage | undefined,
    key: string,
    collect: () => Kept,
    onError: (error: GruError) => void,
  ) {
    this.#storage = storage;
    this.#key = key;
    this.#collect = collect;
    this.#onError = onError;
  }

  /** What the page before has left. */
  read(): Partial<Kept> {
    try {
      return JSON.parse(this.#storage?.getItem(this.#key) ?? "{}");
    } catch {
      return {};
    }
  }

  changed(): void {
    if (this.#storage) this.#timer ??= setTimeout(() => this.flush(), writeAfterMs);
  }

  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    try {
      this.#storage?.setItem(this.#key, JSON.stringify(this.#collect()));
    } catch (cause) {
      this.#onError(new GruError("storage", `storage: ${textOf(cause)}`, { cause }));
    }
  }
}
