/** What this client knows of one group, or of its own user: how far it has come, who is there, and who wants to be told. */
import { Emitter } from "./emitter.ts";
import { GruError } from "./errors.ts";
import { Track } from "./track.ts";
import type { GroupEvents, Message, Position } from "./types.ts";

export interface RoomOptions {
  readonly presence: boolean | undefined;
  readonly last: number | undefined;
  readonly since: Position | undefined;
  /** Messages that may wait in an iteration, or for the first one that listens. */
  readonly backlog: number;
  /** The application has come further. */
  readonly changed: () => void;
}

/** One iteration. */
interface Reader {
  /** The first one is being worked on, once it was given. What is no message is the end. */
  readonly queue: (Message | GruError | undefined)[];
  wake: () => void;
}

export class Room extends Emitter<GroupEvents> {
  readonly id: string;
  readonly last: number | undefined;
  readonly track: Track<Message>;
  readonly users = new Set<string>();
  presence: boolean;
  readonly #options: RoomOptions;
  readonly #readers = new Set<Reader>();
  /** What came before anybody listened; the oldest are dropped beyond the limit. */
  #early: Message[] | undefined = [];
  #end: { readonly why: GruError | undefined } | undefined;

  constructor(id: string, options: RoomOptions) {
    super();
    this.id = id;
    this.presence = options.presence ?? false;
    this.last = options.last;
    this.#options = options;
    this.track = new Track<Message>({
      deliver: (message) => this.#give(message),
      missed: (missed) => this.emit("missed", missed),
      heldAtMost: options.backlog,
    }, options.since);
  }

  /** What the application has seen: messages that wait to be read are not seen yet. */
  get seen(): Position | undefined {
    const queues: Reader["queue"][] = [
      this.#early ?? [],
      ...[...this.#readers].map(({ queue }) => queue),
    ];
    const [first] = queues.reduce((a, b) => b.length > a.length ? b : a);
    return first && "seq" in first ? { epoch: first.epoch, seq: first.seq - 1 } : this.track.at;
  }

  override on<E extends keyof GroupEvents>(
    event: E,
    listener: (argument: GroupEvents[E]) => void,
  ): () => void {
    if (event === "message") this.#begin();
    return super.on(event, listener);
  }

  /** Of what comes from now on. It ends with the room, by an error when the room was closed by one. */
  iterate(): AsyncIterableIterator<Message> {
    const reader: Reader = { queue: [], wake() {} };
    this.#readers.add(reader);
    if (this.#end) put(reader, this.#end.why);
    this.#begin();
    return this.#read(reader);
  }

  /** These are all who are online. */
  meet(users: readonly string[]): void {
    const all = new Set(users);
    this.change(users, [...this.users].filter((user) => !all.has(user)));
  }

  change(came: readonly string[], went: readonly string[]): void {
    const joined = came.filter((user) => !this.users.has(user));
    const left = went.filter((user) => this.users.delete(user));
    for (const user of joined) this.users.add(user);
    if (joined.length + left.length > 0) this.emit("presence", { joined, left });
  }

  /** It is in no history, and so has no position of its own. */
  aside(message: Message): void {
    this.#give({ ...message, ...this.track.at });
  }

  end(why?: GruError): void {
    this.#end = { why };
    for (const reader of this.#readers) put(reader, why);
    if (why) this.emit("closed", why);
  }

  #give(message: Message): void {
    const { backlog, changed } = this.#options;
    changed();
    // An own one, where the group has no echo: only its place is given.
    if (!("content" in message)) return;
    if (this.#early) {
      if (this.#early.push(message) > backlog) this.#early.shift();
      return;
    }
    this.emit("message", message);
    for (const reader of this.#readers) {
      if (reader.queue.length < backlog) put(reader, message);
      else if (this.#readers.delete(reader)) {
        put(reader, new GruError("overflow", `${backlog} messages wait`));
      }
    }
  }

  /** What came early is given to all that begin to listen in the same turn. */
  #begin(): void {
    queueMicrotask(() => {
      const early = this.#early ?? [];
      this.#early = undefined;
      for (const message of early) this.#give(message);
    });
  }

  async *#read(reader: Reader): AsyncGenerator<Message> {
    const { queue } = reader;
    try {
      for (;;) {
        if (queue.length === 0) await new Promise<void>((resolve) => reader.wake = resolve);
        const [message] = queue;
        if (message instanceof GruError) throw message;
        if (!message) return;
        yield message;
        queue.shift();
        this.#options.changed();
      }
    } finally {
      this.#readers.delete(reader);
    }
  }
}

function put({ queue, wake }: Reader, item: Message | GruError | undefined): void {
  queue.push(item);
  wake();
}
