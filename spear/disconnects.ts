/**
 * Why a spear ends a connection, and whether the client should return: one table for the code, for clients and for README.
 */

export interface Disconnect {
  /** Of the close frame that a WebSocket gets. From {@linkcode firstFinalCode} on: the client should stay away. */
  readonly code: number;
  /** Beside the code: at most 123 bytes. */
  readonly text: string;
  /**
   * Stock clients reconnect by themselves when their transport ends, and never after socket.io's DISCONNECT packet:
   * only where this is false do they get that packet.
   */
  readonly comesBack: boolean;
  /** What was written before is dropped where it cannot leave in this turn: the client does not read it, or has no claim to it. */
  readonly atOnce: boolean;
}

/** As with Centrifuge, the range of a code says what a client is to do. */
export const firstFinalCode = 4500;

export const disconnects = {
  /** It did not authenticate in time. */
  unauthenticated: back(4001, "not authenticated in time"),
  /** It sent what socket.io does not allow. */
  protocolError: { ...back(4002, "protocol error"), atOnce: true },
  /** It did not bring new rights in time, see the event `refresh`. */
  rightsExpired: back(4003, "rights expired"),
  /** It did not read what was sent to it. */
  slowConsumer: { ...back(4008, "slow consumer"), atOnce: true },
  /** The node cannot know whether it accepted a message: the client sends that again, with the same `clientMsgId`. */
  inDoubt: back(4011, "a message is in doubt"),
  /** The node is drained, stops, or has lost its name. */
  leaving: back(4012, "this node is being emptied"),
  /** `auth` was refused for a reason that passes: too many connections of the user, no budget, a store is away. */
  tryLater: back(4013, "try again later"),
  /** It went on sending after many refusals with `retryAfterMs`. */
  overBudget: { ...back(4029, "over budget"), atOnce: true },
  /** By an operator. The user may come again. */
  kicked: away(4500, "kicked"),
  /** By an operator, until the time that the event `kicked` names. */
  banned: away(4501, "banned"),
  /** `auth` was refused: the tokens or the argument are not valid, or the user is banned. */
  refused: away(4502, "auth refused"),
} as const satisfies Record<string, Disconnect>;

function back(code: number, text: string): Disconnect {
  return { code, text, comesBack: true, atOnce: false };
}

function away(code: number, text: string): Disconnect {
  return { code, text, comesBack: false, atOnce: false };
}
