/** What each kind of event says. Ids are decimal strings, or names of groups. */

interface OfUser {
  readonly userId: string;
}

interface OfGroup {
  readonly groupId: string;
}

interface OfMember extends OfUser, OfGroup {}

interface OfNode {
  readonly node: string;
}

/** To a group or to a user. */
interface OfMessage {
  readonly id: string;
  readonly groupId?: string | undefined;
  readonly userId?: string | undefined;
  /** Missing: the system. */
  readonly senderId?: string | undefined;
  readonly seq: number;
  readonly epoch: string;
  readonly content: string;
}

/** `data` of an event, by its kind. */
export interface KindData {
  readonly "user.online": OfUser;
  readonly "user.offline": OfUser;
  readonly "group.occupied": OfGroup;
  readonly "group.vacated": OfGroup;
  readonly "member.joined": OfMember;
  readonly "member.left": OfMember;
  readonly "message.accepted": OfMessage;
  /** Nobody was there. */
  readonly "message.unattended": OfMessage;
  readonly "user.kicked": { readonly userId: string; readonly reason: string };
  /** With `groupId` the group is closed for everybody. */
  readonly "user.banned": {
    readonly userId?: string | undefined;
    readonly groupId?: string | undefined;
    readonly reason: string;
    readonly untilMs: number;
  };
  readonly "node.joined": OfNode;
  readonly "node.left": OfNode;
  readonly "node.died": OfNode;
  /**
   * Events are missing. `reset: true`: everybody who is present is told again behind it, so forget what you knew. Otherwise `count`
   * events of `bytes` together, from `fromMs` to `toMs`, were given up for the endpoint.
   */
  readonly "hooks.gap": {
    readonly reason: "lost" | "age" | "size";
    readonly reset: boolean;
    readonly endpoint?: string | undefined;
    readonly count?: number | undefined;
    readonly bytes?: number | undefined;
    readonly fromMs?: number | undefined;
    readonly toMs?: number | undefined;
  };
}

export type Kind = keyof KindData;

/** What a business system is asked, by `decision`. */
export type Decision =
  /** May this client have a ticket, and as whom? The client's own words, none of them verified. */
  | {
    readonly decision: "admission";
    readonly token1: string;
    readonly userId?: string | undefined;
    readonly userName?: string | undefined;
    readonly appType?: string | undefined;
  }
  /** May this user join this group? */
  | { readonly decision: "subscribe"; readonly userId: string; readonly groupId: string }
  /** May this user be told who is online in this group? */
  | { readonly decision: "online"; readonly userId: string; readonly groupId: string }
  /** What becomes of this message, to a group or to a user? */
  | {
    readonly decision: "beforeSend";
    readonly userId: string;
    readonly groupId?: string | undefined;
    readonly toUserId?: string | undefined;
    readonly content: string;
    readonly clientMsgId?: string | undefined;
  };
