/** The client in components: hooks for React 18 and later. A component is rendered anew when what it was given changes. */
import { useCallback, useMemo, useSyncExternalStore } from "react";
import type {
  Accepted,
  GroupOptions,
  Gru,
  GruError,
  Id,
  Message,
  Missed,
  Off,
  SendOptions,
  State,
} from "@gru/client";

export interface Conversation {
  /** The newest ones, in order. */
  readonly messages: readonly Message[];
  /** What is lost to this client. */
  readonly missed: readonly Missed[];
  /** As `send` of the group or user, and the same function in each rendering. */
  readonly send: (content: string, options?: SendOptions) => Promise<Accepted>;
}

export interface GroupConversation extends Conversation {
  /** Who is online in it, when `presence` was asked for. */
  readonly users: ReadonlySet<string>;
  /** Why nothing comes any more: the user was taken out, or may not listen. */
  readonly closed: GruError | undefined;
}

export interface KeepOptions {
  /** So many messages are kept. Default 500. What the first component of a group says is valid for all of them. */
  readonly keep?: number;
}

/** What the client does at present. */
export function useGruState(gru: Gru): State {
  const subscribe = useCallback((changed: () => void) => gru.on("state", changed), [gru]);
  const state = () => gru.state;
  return useSyncExternalStore(subscribe, state, state);
}

/**
 * Listens to the group as long as any component shows it, and leaves it then. All components of a group share its messages.
 * @param options are read when the component begins to show the group; `presence` also later
 */
export function useGroup(
  gru: Gru,
  id: Id,
  options: GroupOptions & KeepOptions = {},
): GroupConversation {
  const { presence = false } = options;
  const watch = useMemo(() => watchOf(gru, `group ${id}`, () => new Watch(gru, id, true)), [
    gru,
    id,
  ]);
  const subscribe = useCallback(
    (changed: () => void) => watch.subscribe(changed, { ...options, presence }),
    [watch, presence],
  );
  return useSyncExternalStore(subscribe, watch.now, watch.now);
}

/** Listens to what is sent to the client's own user. */
export function useUser(gru: Gru, id: Id, options: KeepOptions = {}): Conversation {
  const watch = useMemo(() => watchOf(gru, `user ${id}`, () => new Watch(gru, id, false)), [
    gru,
    id,
  ]);
  const subscribe = useCallback((changed: () => void) => watch.subscribe(changed, options), [
    watch,
  ]);
  return useSyncExternalStore(subscribe, watch.now, watch.now);
}

/** What all components of one group or user see. */
class Watch {
  readonly #gru: Gru;
  readonly #id: Id;
  readonly #isGroup: boolean;
  readonly #begin: GroupConversation;
  readonly #changed = new Set<() => void>();
  /** Empty: not listening. */
  #offs: Off[] = [];
  #isPresent = false;
  #now: GroupConversation;

  constructor(gru: Gru, id: Id, isGroup: boolean) {
    this.#gru = gru;
    this.#id = id;
    this.#isGroup = isGroup;
    const target = isGroup ? gru.group(id) : gru.user(id);
    this.#begin = this.#now = {
      messages: [],
      missed: [],
      users: new Set(),
      closed: undefined,
      send: (content, options) => target.send(content, options),
    };
  }

  readonly now = (): GroupConversation => this.#now;

  /** One function for each call: a component may subscribe again before it ends the time before. */
  subscribe(changed: () => void, options: GroupOptions & KeepOptions): Off {
    const one = () => changed();
    if (this.#offs.length === 0) this.#open(options);
    this.#changed.add(one);
    if (options.presence && !this.#isPresent) {
      this.#isPresent = true;
      const group = this.#gru.group(this.#id, options);
      const show = () => this.#change({ users: new Set(group.users) });
      this.#offs.push(group.on("presence", show));
      show();
    }
    return () => {
      this.#changed.delete(one);
      // A component that only moves, or is tried by React's strict mode, is back in the same turn.
      setTimeout(() => this.#changed.size === 0 && this.#close());
    };
  }

  #open({ keep = 500, ...options }: GroupOptions & KeepOptions): void {
    const group = this.#isGroup ? this.#gru.group(this.#id, options) : undefined;
    const source = group ?? this.#gru.user(this.#id);
    this.#offs.push(
      source.on(
        "missed",
        (one) => this.#change({ missed: [...this.#now.missed, one].slice(-keep) }),
      ),
      source.on(
        "message",
        (one) => this.#change({ messages: [...this.#now.messages, one].slice(-keep) }),
      ),
    );
    if (group) this.#offs.push(group.on("closed", (closed) => this.#change({ closed })));
  }

  #close(): void {
    if (this.#offs.length === 0) return;
    for (const off of this.#offs.splice(0)) off();
    if (this.#isGroup) this.#gru.group(this.#id).leave();
    this.#isPresent = false;
    this.#now = this.#begin;
  }

  #change(part: Partial<GroupConversation>): void {
    this.#now = { ...this.#now, ...part };
    for (const changed of this.#changed) changed();
  }
}

const watches = new WeakMap<Gru, Map<string, Watch>>();

function watchOf(gru: Gru, name: string, make: () => Watch): Watch {
  let all = watches.get(gru);
  if (!all) watches.set(gru, all = new Map());
  let watch = all.get(name);
  if (!watch) all.set(name, watch = make());
  return watch;
}
