/** What the load wants of a client, in whatever protocol the server speaks. */
import type { Position } from "@gru/client";
import type { Address, OnBytes } from "./raw_web_socket.ts";

/** `4` and `3`: socket.io over Engine.IO 4 or 3. `centrifugo`: Centrifugo's JSON protocol. All over WebSocket. */
export const protocols = ["4", "3", "centrifugo"] as const;
export type Protocol = (typeof protocols)[number];

/** By number, as in the profile of a spear. */
export type LineTarget = { readonly user: number } | { readonly group: number };

export interface LineOptions extends Address {
  readonly user: number;
  /** Token2, where the place comes from a ticket; else empty. */
  readonly token: string;
  /** The group to join; none: only what is for the user itself comes. */
  readonly group?: number | undefined;
  /** The last message of the group that came: the server sends what has been missed since. socket.io only. */
  readonly since?: Position | undefined;
  /** Called with the answer, before anything that comes behind it. socket.io only. */
  readonly onJoined?: ((joined: Joined) => void) | undefined;
  /** Bytes in which there is one message at most. */
  readonly onMessage: OnBytes;
  /** The answer to {@linkcode Line.publish}. @param text of the answer */
  readonly onAnswer?: ((id: number, success: boolean, text: () => string) => void) | undefined;
  /** The connection has ended after it was let in, and not by {@linkcode Line.close}. */
  readonly onLost: () => void;
}

/** Where the group was, and whether everything since {@linkcode LineOptions.since} has come. */
export interface Joined extends Position {
  readonly recovered: boolean;
}

/** A connection that is let in, and is a member of its group. */
export interface Line {
  /** @param id comes back with the answer; at least 1 */
  publish(target: LineTarget, content: string, id: number): void;
  /** Cuts the connection. */
  close(): void;
}
