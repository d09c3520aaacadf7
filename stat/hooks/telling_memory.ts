/** Events made in the store of one process, which is lost as a whole or not at all. */
import type { HookEvent } from "./event.ts";
import { MemoryStream } from "./stream_memory.ts";
import {
  activeMs,
  type GoneNode,
  readEveryMs,
  type ReadLog,
  type TargetPosition,
  type Telling,
  type TellOptions,
  type Told,
} from "./telling.ts";

/** Who is on a node. */
export interface Present {
  readonly users: ReadonlySet<string>;
  readonly groups: ReadonlyMap<string, ReadonlySet<string>>;
}

interface Mark {
  /** undefined: the user alone. */
  readonly groupId: string | undefined;
  readonly userId: string;
  /** On the clock of `performance.now()`. */
  readonly dueAt: number;
}

/** A target that messages are published to. */
interface Log {
  read: TargetPosition;
  /** On the clock of `performance.now()`. */
  activeAt: number;
  dueAt: number;
}

interface Book {
  readonly users: Set<string>;
  readonly groups: Map<string, Set<string>>;
}

export class MemoryTelling implements Telling {
  readonly stream = new MemoryStream();
  readonly #present: () => Iterable<Present>;
  readonly #settled: () => boolean;
  /** Undefined: hooks are off. */
  #book: Book | undefined;
  #graceMs = 0;
  #caller = "";
  #wantsMessages = false;
  readonly #logs = new Map<string, Log>();
  readonly #marks = new Map<string, Mark>();
  readonly #nodes = new Map<string, number>();

  /** @param settled whether all nodes have reported */
  constructor(present: () => Iterable<Present>, settled: () => boolean) {
    this.#present = present;
    this.#settled = settled;
  }

  get isOn(): boolean {
    return this.#book !== undefined;
  }

  /** Call it where users come (`joins`) or go, within the step that changes who is there. */
  mark(joins: boolean, groupId: string | undefined, userIds: Iterable<string>): void {
    if (this.#book === undefined) return;
    const told = groupId === undefined ? this.#book.users : this.#book.groups.get(groupId);
    const now = performance.now();
    const dueAt = joins ? now : now + this.#graceMs;
    for (const userId of userIds) {
      if (joins === (told?.has(userId) ?? false)) continue;
      const name = JSON.stringify([groupId, userId]);
      const known = this.#marks.get(name)?.dueAt ?? dueAt;
      const [sooner, later] = [Math.min(known, dueAt), Math.max(known, dueAt)];
      this.#marks.set(name, { groupId, userId, dueAt: joins ? sooner : later });
    }
  }

  /** {@linkcode mark} for all who are on a node. */
  markAll(joins: boolean, { users, groups }: Present): void {
    if (!this.isOn) return;
    this.mark(joins, undefined, users);
    for (const [groupId, members] of groups) this.mark(joins, groupId, members);
  }

  async tell(
    token: string,
    { graceMs, caller, messages = false, most = 500 }: TellOptions,
  ): Promise<Told> {
    if (token !== this.stream.holder) return { state: "fenced" };
    if (!this.#settled()) return { state: "waiting" };
    const { last } = this.stream;
    if (this.#book === undefined) return { state: "doubt", caller: "", last };
    const before = caller === this.#caller ? undefined : last;
    [this.#graceMs, this.#caller, this.#wantsMessages] = [graceMs, caller, messages];
    const now = performance.now();
    const due = [...this.#marks].filter(([, { dueAt }]) => dueAt <= now)
      .sort(([, a], [, b]) => a.dueAt - b.dueAt).slice(0, most);
    for (const [name] of due) this.#marks.delete(name);
    const marks = due.map(([, mark]) => mark);
    const counts = this.#added();
    for (const mark of marks) if (this.#isThere(mark)) this.#came(this.#book, mark);
    for (const mark of marks) if (!this.#isThere(mark)) this.#went(this.#book, mark);
    const next = Math.min(...[...this.#marks.values()].map(({ dueAt }) => dueAt));
    const nextMs = next === Infinity ? undefined : Math.max(0, next - now);
    const added = this.#added() - counts;
    return { state: "told", added, more: nextMs === 0, nextMs, before };
  }

  async reset(token: string, { graceMs }: TellOptions): Promise<boolean> {
    if (token !== this.stream.holder) return false;
    this.#graceMs = graceMs;
    this.#book = { users: new Set(), groups: new Map() };
    this.#marks.clear();
    this.#nodes.clear();
    this.stream.add("hooks.gap", "hooks:", { reason: "lost", reset: true });
    for (const present of this.#present()) this.markAll(true, present);
    return true;
  }

  /** Never needed: this store never comes back older. */
  async resume(token: string, _events: readonly HookEvent[]): Promise<boolean> {
    return token === this.stream.holder;
  }

  async tellNodes(
    token: string,
    live: ReadonlyMap<string, number>,
    ends: ReadonlyMap<string, "left" | "died">,
  ): Promise<readonly GoneNode[]> {
    if (token !== this.stream.holder || !this.isOn) return [];
    const unknown: GoneNode[] = [];
    for (const [name, startedAt] of this.#nodes) {
      if (live.get(name) === startedAt) continue;
      const end = ends.get(name);
      if (end === undefined) unknown.push({ name, startedAt });
      else {
        this.#nodes.delete(name);
        this.stream.add(`node.${end}`, `node:${name}`, { node: name });
      }
    }
    for (const [name, startedAt] of live) {
      if (this.#nodes.has(name)) continue;
      this.#nodes.set(name, startedAt);
      this.stream.add("node.joined", `node:${name}`, { node: name });
    }
    return unknown;
  }

  async active(targets: readonly TargetPosition[]): Promise<boolean> {
    if (!this.isOn || !this.#wantsMessages) return false;
    const now = performance.now();
    for (const read of targets) {
      const name = nameOf(read.target);
      const log = this.#logs.getOrInsertComputed(name, () => ({ read, activeAt: now, dueAt: now }));
      log.activeAt = log.dueAt = now;
    }
    return true;
  }

  async unread(token: string, most: number): Promise<readonly TargetPosition[]> {
    if (token !== this.stream.holder) return [];
    const now = performance.now();
    return [...this.#logs.values()].filter(({ dueAt }) => dueAt <= now)
      .map(({ read }) => read).slice(0, most);
  }

  async tellMessages(token: string, { from, to, lost, more, messages }: ReadLog): Promise<void> {
    const { target } = from;
    const subject = nameOf(target);
    const log = this.#logs.get(subject);
    if (token !== this.stream.holder || log === undefined || !this.#settled()) return;
    if (log.read.epoch !== from.epoch || log.read.seq !== from.seq) return;
    if (lost) this.stream.add("hooks.gap", subject, { reason: "lost", reset: false });
    const isAttended = [...this.#present()].some(({ users, groups }) =>
      target.kind === "user" ? users.has(target.id) : groups.has(target.id)
    );
    for (const message of messages) {
      this.stream.add("message.accepted", subject, message);
      if (!isAttended) this.stream.add("message.unattended", subject, message);
    }
    const now = performance.now();
    log.read = { target, ...to };
    const waitMs = Math.max(readEveryMs, Math.min((now - log.activeAt) / 4, 10 * readEveryMs));
    log.dueAt = more ? now : now + waitMs;
    if (!more && messages.length === 0 && now - log.activeAt > activeMs) this.#logs.delete(subject);
  }

  #added(): number {
    return this.stream.events.length;
  }

  #isThere({ groupId, userId }: Mark): boolean {
    for (const { users, groups } of this.#present()) {
      if ((groupId === undefined ? users : groups.get(groupId))?.has(userId)) return true;
    }
    return false;
  }

  #came({ users, groups }: Book, { groupId, userId }: Mark): void {
    if (groupId === undefined) {
      if (users.has(userId)) return;
      users.add(userId);
      return this.stream.add("user.online", `user:${userId}`, { userId });
    }
    if (groups.get(groupId)?.has(userId)) return;
    const subject = `group:${groupId}`;
    if (!groups.has(groupId)) this.stream.add("group.occupied", subject, { groupId });
    groups.getOrInsertComputed(groupId, () => new Set()).add(userId);
    this.stream.add("member.joined", subject, { groupId, userId });
  }

  #went({ users, groups }: Book, { groupId, userId }: Mark): void {
    if (groupId === undefined) {
      if (users.delete(userId)) this.stream.add("user.offline", `user:${userId}`, { userId });
      return;
    }
    const members = groups.get(groupId);
    if (!members?.delete(userId)) return;
    const subject = `group:${groupId}`;
    this.stream.add("member.left", subject, { groupId, userId });
    if (members.size > 0) return;
    groups.delete(groupId);
    this.stream.add("group.vacated", subject, { groupId });
  }
}

function nameOf({ kind, id }: TargetPosition["target"]): string {
  return `${kind}:${id}`;
}
