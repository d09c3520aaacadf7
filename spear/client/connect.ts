/** The door: a connection to a cluster, and the groups and users behind it. */
import { GruError } from "./errors.ts";
import type { Room } from "./room.ts";
import { Session } from "./session.ts";
import type { ConnectOptions, Group, Gru } from "./types.ts";

/**
 * Connects, and returns at once: `state` says how that goes, and everything may be used before it has succeeded. */
export function connect(options: ConnectOptions): Gru {
  const session = new Session(options);

  /** @param open the room that messages come from */
  function target(type: 0 | 1, id: string, open: () => Room): Group {
    let room: Room | undefined;
    const listening = () => room ??= open();
    return {
      id,
      get users() {
        return room?.users ?? new Set();
      },
      get position() {
        return room?.seen;
      },
      on: (event, listener) => listening().on(event, listener),
      [Symbol.asyncIterator]: () => listening().iterate(),
      async send(content, { signal, clientMsgId = randomId(), priority } = {}) {
        const message = { type, target: { id }, content, clientMsgId, priority };
        return await session.outbox.send(message, signal);
      },
      online: () => session.online(id),
      leave: () => session.leave(listening()),
    };
  }

  return {
    get state() {
      return session.state;
    },
    on: (event, listener) => session.on(event, listener),
    group: (group, options = {}) =>
      target(1, String(group), () => session.group(String(group), options)),
    user(user) {
      const { own } = session;
      const id = String(user);
      return target(0, id, () => {
        if (id === own.id) return own;
        throw new GruError("invalid", `user: expected the client's own, ${own.id}, got ${id}`);
      });
    },
    close: ({ waitMs = 5000 } = {}) => session.finish(waitMs),
  };
}

/** Unique among those of the user while history is kept. `crypto.randomUUID` is missing in pages that came by plain HTTP. */
function randomId(): string {
  return Date.now().toString(36) + Math.random().toString(36);
}
