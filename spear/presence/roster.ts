/** The changes on this node since the last report to stat: users that joined or left. */

/** Users of the node, or of one group on it, that joined or left. */
export interface Change {
  /** undefined: the users of the node. */
  readonly groupId: string | undefined;
  readonly joined: readonly string[];
  readonly left: readonly string[];
}

type Presence = "joined" | "left";

/**
 * Keeps the last change of each user. A user that joined and left again is reported as left, because a full report that
 * was read in the meantime may contain it.
 */
export class Roster {
  #changes = new Map<string | undefined, Map<string, Presence>>();

  userJoined(userId: string): void {
    this.#record(undefined, userId, "joined");
  }

  userLeft(userId: string): void {
    this.#record(undefined, userId, "left");
  }

  groupJoined(groupId: string, userId: string): void {
    this.#record(groupId, userId, "joined");
  }

  groupLeft(groupId: string, userId: string): void {
    this.#record(groupId, userId, "left");
  }

  /** The changes since the last call. */
  take(): Change[] {
    const changes = [...this.#changes].map(([groupId, users]) => ({ groupId, ...split(users) }));
    this.#changes = new Map();
    return changes;
  }

  #record(groupId: string | undefined, userId: string, presence: Presence): void {
    this.#changes.getOrInsertComputed(groupId, () => new Map()).set(userId, presence);
  }
}

export interface Part {
  readonly batch: readonly Change[];
  /** Another part follows. */
  readonly more: boolean;
}

/**
 * Splits changes into parts of at most `namesPerPart` names, at least one part. Reads the changes lazily, as the parts
 * are read.
 */
export function* partsOf(changes: Iterable<Change>, namesPerPart: number): Generator<Part> {
  let batch: Change[] = [];
  let room = namesPerPart;
  for (const piece of piecesOf(changes, namesPerPart)) {
    const size = piece.joined.length + piece.left.length;
    if (size > room && batch.length > 0) {
      yield { batch, more: true };
      batch = [];
      room = namesPerPart;
    }
    batch.push(piece);
    room -= size;
  }
  yield { batch, more: false };
}

function* piecesOf(changes: Iterable<Change>, size: number): Generator<Change> {
  for (const { groupId, joined, left } of changes) {
    if (joined.length + left.length <= size) {
      yield { groupId, joined, left };
      continue;
    }
    for (let at = 0; at < joined.length; at += size) {
      yield { groupId, joined: joined.slice(at, at + size), left: [] };
    }
    for (let at = 0; at < left.length; at += size) {
      yield { groupId, joined: [], left: left.slice(at, at + size) };
    }
  }
}

function split(users: ReadonlyMap<string, Presence>) {
  const joined: string[] = [];
  const left: string[] = [];
  for (const [userId, presence] of users) (presence === "joined" ? joined : left).push(userId);
  return { joined, left };
}
