/** What an application gives and is given. */
import type { GruError } from "./errors.ts";

/** A number where a JSON number can hold it, or the decimal string. */
export type Id = number | string;

/** How far one has come in the messages of a group or user. */
export interface Position {
  readonly epoch: string;
  readonly seq: number;
}

/** Where the cluster has put a message; `seq` is 0 where it has put it nowhere. */
export interface Accepted extends Position {
  /** Of the message, a decimal string; of one that was dropped "". */
  readonly id: string;
  /** True: nobody gets it, since its group has too many now, and is one that drops what is too much. */
  readonly dropped?: boolean | undefined;
}

export interface Message extends Omit<Accepted, "dropped"> {
  /** The user that sent it; "0": the system. */
  readonly fromId: string;
  readonly target: { readonly kind: "group" | "user"; readonly id: string };
  readonly content: string;
  /** Unix milliseconds. */
  readonly createTime: number;
}

/** An announcement to everybody who is connected: not kept, in no order with messages. */
export type Broadcast = Pick<Message, "id" | "fromId" | "content" | "createTime">;

/**
 * Messages `from` to `to` of this epoch are lost to this client: history does not have them any more. `to` is undefined where the epoch has
 * ended and nobody knows how many there were, or whether there was any.
 */
export interface Missed {
  readonly epoch: string;
  readonly from: number;
  readonly to: number | undefined;
}

/** Who came into a group and who left it since the last time. */
export interface PresenceChange {
  readonly joined: readonly string[];
  readonly left: readonly string[];
}

export type State =
  | { readonly name: "connecting" }
  | { readonly name: "online"; readonly node: string }
  /** `nextAt`: when it tries again, Unix milliseconds. */
  | { readonly name: "offline"; readonly why: GruError; readonly nextAt: number }
  /** For good. Without `why`: by `close()`. */
  | { readonly name: "closed"; readonly why?: GruError };

export interface User {
  readonly id: Id;
  readonly name: string;
  /** The kind of application, `appType` of the ticket. Default "1". */
  readonly app?: string;
}

/** What `localStorage` and `sessionStorage` have. */
export interface KeyValueStorage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

export interface ConnectOptions {
  /** Where ticket is, e.g. `https://chat.example`. */
  readonly ticket: string;
  readonly user: User;
  /** Users with the same text come to the same node where possible: e.g. the room that they will be in. */
  readonly affinity?: string;
  /**
   * token1, made by your own server, or a function that fetches it. A function is asked again when the token was refused or its
   * rights are about to end. Without one: "none", for clusters that do not verify tokens.
   */
  readonly token?: string | (() => string | Promise<string>);
  /**
   * Keeps what a reloaded page needs: how far each group was read, what was not sent yet, the token to return with. For a page
   * `sessionStorage`: two pages must not share one.
   */
  readonly storage?: KeyValueStorage;
  /** Messages that may wait to be sent, together. Default 1000, of 4 000 000 characters. */
  readonly outbox?: { readonly messages?: number; readonly characters?: number };
  /** Messages that may wait in an iteration, or for the first listener. Default 1000. */
  readonly backlog?: number;
  /** The pause before attempt n is random between 0 and `firstMs` × 2ⁿ, `mostMs` at most. Default 1000 and 30 000. */
  readonly retry?: { readonly firstMs?: number; readonly mostMs?: number };
  /** How long one attempt to reach ticket or a node may take. Default 10 000. */
  readonly connectMs?: number;
  /** A node that has not answered for so long is left for another one. Default 20 000. */
  readonly answerMs?: number;
  /** Of socket.io, in the order in which they are tried. Default WebSocket, then polling. */
  readonly transports?: readonly ("websocket" | "polling")[];
  /** How ticket is asked; GET puts the token into the address. Default POST. */
  readonly method?: "POST" | "GET";
}

export interface GroupOptions {
  /** Tells who comes and goes. */
  readonly presence?: boolean;
  /** So many of the newest messages are given first. Without effect where a position is known. */
  readonly last?: number;
  /** What came after this position is given first. */
  readonly since?: Position;
}

export interface SendOptions {
  /** Ends the attempts. What is under way then may be accepted all the same. */
  readonly signal?: AbortSignal;
  /** At most 128 characters. Messages with the same one are one message. Default: a random one. */
  readonly clientMsgId?: string;
  /** Where a group has too many messages, these are the first that it does without. */
  readonly priority?: "low";
}

export interface GroupEvents {
  readonly message: Message;
  readonly presence: PresenceChange;
  readonly missed: Missed;
  /** The user was taken out, or may not listen: nothing more will come. */
  readonly closed: GruError;
}

export interface GruEvents {
  readonly state: State;
  readonly broadcast: Broadcast;
  /** The business system has put the user into this group, which is joined now. What comes waits for the first listener. */
  readonly subscribed: string;
  /** Something that nobody waits for has failed: what a page before could not send, or the storage. */
  readonly error: GruError;
}

/** Ends the listening. */
export type Off = () => void;

/** What messages are sent to. */
export interface Target {
  readonly id: string;
  /**
   * Resolves when the message is accepted: counted, kept, and on its way. Until then it is sent again over any number of connections, by
   * the same `clientMsgId`, so that it is accepted once (as long as the cluster keeps history). Messages to one target are accepted in
   * the order of the calls.
   * @throws {GruError} when it is refused, or has not been sent when the client is closed; or the signal's reason
   */
  send(content: string, options?: SendOptions): Promise<Accepted>;
}

/** What messages come from: each once, in the order of the target, by listeners (in the turn in which it comes) or `for await`. */
export interface Source extends AsyncIterable<Message> {
  /** How far the application has come: to be given as `since`, where no `storage` does it. */
  readonly position: Position | undefined;
}

/** A group. It is joined when one begins to listen to it. */
export interface Group extends Target, Source {
  /** Who is online in it, when `presence` was asked for. */
  readonly users: ReadonlySet<string>;
  on<E extends keyof GroupEvents>(event: E, listener: (argument: GroupEvents[E]) => void): Off;
  /** Asks who is online in it. @throws {GruError} */
  online(): Promise<string[]>;
  /** No message comes any more; iterations end. */
  leave(): void;
}

/** A user. Messages come from the client's own one only: those that were sent to it, whoever sent them. */
export interface Person extends Target, Source {
  on<E extends "message" | "missed">(event: E, listener: (argument: GroupEvents[E]) => void): Off;
}

export interface Gru {
  readonly state: State;
  on<E extends keyof GruEvents>(event: E, listener: (argument: GruEvents[E]) => void): Off;
  /** Where it is joined already, `last` and `since` have no effect. */
  group(id: Id, options?: GroupOptions): Group;
  user(id: Id): Person;
  /** Sends what waits, while it is online and for `waitMs` (5000) at most, and ends. What is left is rejected by `closed`. */
  close(options?: { readonly waitMs?: number }): Promise<void>;
}
