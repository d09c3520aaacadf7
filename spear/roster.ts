/** What has changed on this node since stat was last told: who came and who went. */

type Change = "joined" | "left";

export interface Delta {
  readonly users: { readonly joined: string[]; readonly left: string[] };
  readonly groups: readonly {
    readonly groupId: string;
    readonly joined: string[];
    readonly left: string[];
  }[];
}

/** A user counts from the first connection to the last, in the node as in each group. */
export class Roster {
  #users = new Map<string, Change>();
  #groups = new Map<string, Map<string, Change>>();

  userJoined(userId: string): void {
    record(this.#users, userId, "joined");
  }

  userLeft(userId: string): void {
    record(this.#users, userId, "left");
  }

  groupJoined(groupId: string, userId: string): void {
    this.#group(groupId, userId, "joined");
  }

  groupLeft(groupId: string, userId: string): void {
    this.#group(groupId, userId, "left");
  }

  /** The changes since the last call. */
  take(): Delta {
    const delta = {
      users: split(this.#users),
      groups: [...this.#groups].map(([groupId, changes]) => ({ groupId, ...split(changes) })),
    };
    this.#users = new Map();
    this.#groups = new Map();
    return delta;
  }

  #group(groupId: string, userId: string, change: Change): void {
    const changes = this.#groups.getOrInsertComputed(groupId, () => new Map());
    record(changes, userId, change);
    if (changes.size === 0) this.#groups.delete(groupId);
  }
}

/** Who came and went again has not changed. */
function record(changes: Map<string, Change>, userId: string, change: Change): void {
  const before = changes.get(userId);
  if (before !== undefined && before !== change) changes.delete(userId);
  else changes.set(userId, change);
}

function split(changes: ReadonlyMap<string, Change>) {
  const joined: string[] = [];
  const left: string[] = [];
  for (const [userId, change] of changes) (change === "joined" ? joined : left).push(userId);
  return { joined, left };
}
