/** What a session has below it and around it: the transport of its client, and its node. */
import type { Logger } from "@gru/shared/log";
import type { Disconnect } from "../disconnects.ts";
import type { Hub, Member } from "../hub/hub.ts";
import type { Trail } from "../hub/trail.ts";
import type { Frame } from "../packets.ts";
import type { GroupUsers } from "../presence/group_users.ts";
import type { Presence } from "../presence/presence.ts";
import type { Roster } from "../presence/roster.ts";
import type { Argument, Target } from "../wire.ts";
import type { Admitted, Entering } from "./admission.ts";
import type { Bans } from "./bans.ts";
import type { Mutes } from "./mutes.ts";
import type { Decisions } from "./decisions.ts";
import type { GroupRules } from "./group_rules.ts";
import type { Intake } from "./intake.ts";
import type { KeptRoom } from "./kept.ts";
import type { Submit } from "./submit.ts";
import type { Work } from "./work.ts";

/** What is counted of clients. */
export interface Counts {
  /** An event was answered, or its outcome is not known. @param client for people, of whom it is */
  event(name: string, code: number | "in_doubt", client: () => string): void;
  /** A message was refused before it was sent on. */
  refused(): void;
  /** Frames were given to connections. */
  delivered(frames: number): void;
  /** A client came back with a position. */
  recovery(recovered: boolean): void;
  /** A client was told that so many messages do not come. */
  missed(messages: number): void;
  /** A connection has ended. @param why the node ended it; else the client did, or its line broke */
  disconnected(why: Disconnect | undefined): void;
}

export interface AboutConnection {
  readonly transport: "polling" | "websocket";
  /** The other end of the TCP connection: a proxy's, behind one. Undefined: not known just now. */
  readonly address: string | undefined;
}

/** The transport below a session. Everything is written in the order of the calls. */
export interface Connection {
  /** For people. */
  readonly about: AboutConnection;
  /** What was given to it and the client has not read yet, as far as this process knows. */
  readonly waitingBytes: number;
  send(frame: Frame): void;
  emit(event: string, argument: object): void;
  /** Tells of messages that do not come, as members are (`missed`). */
  lost(target: Target, epoch: string, from: number, to: number): void;
  /** A client that is to return is not told so in socket.io's words: its transport ends. A WebSocket gets the code. */
  close(why: Disconnect): void;
  /**
   * Resolves when everything that was given until now has been handed to the kernel or fetched by a poll, or when the
   * connection has ended. Node may still hold as much as its own high-water mark.
   */
  drained(): Promise<void>;
  /** Reads nothing more of the client for so long, where the transport can. */
  rest(ms: number): void;
}

/** What a session is given by its node. */
export interface SessionContext<S extends Member> {
  readonly hub: Hub<S>;
  readonly submit: Submit;
  /** Undefined: the business system is asked about nothing. */
  readonly decisions?: Decisions | undefined;
  /** Undefined: all groups are alike. */
  readonly groupRules?: GroupRules<S> | undefined;
  readonly bans: Bans;
  readonly mutes: Mutes;
  /** Undefined: nobody is told who comes and goes. */
  readonly roster: Roster | undefined;
  /** Over the whole cluster. */
  readonly groupUsers: GroupUsers;
  /** @throws {EventError} when the tokens do not fit. */
  readonly authenticate: (claims: Argument<"auth">, before?: Admitted) => Promise<Admitted>;
  readonly limits: SessionLimits;
  readonly entering: Entering;
  /** For events that wait for `auth`. */
  readonly keptRoom: KeptRoom;
  /** What the node takes on while it cannot keep up. */
  readonly intake: Pick<Intake, "takeMessage" | "takeReading" | "calm">;
  /** The budgets of connections and users. */
  readonly work: Work;
  /** Tells members of groups who ask for it that users came or went. */
  readonly presence: Presence;
  /** Where it is noted what clients have missed. */
  readonly trail: Pick<Trail, "missed">;
  readonly counts: Counts;
  readonly log: Logger;
}

export interface SessionLimits {
  readonly groupsPerConnection: number;
  readonly connectionsPerUser: number;
  readonly messagesPerSecond: number;
  readonly waitingBytes: number;
}
