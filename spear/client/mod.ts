/** The client of Gru for browsers, Node 20 and later, and Deno. */
export { connect } from "./connect.ts";
export { GruError, type GruErrorCode } from "./errors.ts";
export type {
  Accepted,
  Broadcast,
  ConnectOptions,
  Group,
  GroupEvents,
  GroupOptions,
  Gru,
  GruEvents,
  Id,
  KeyValueStorage,
  Message,
  Missed,
  Off,
  Person,
  Position,
  PresenceChange,
  SendOptions,
  Source,
  State,
  Target,
  User,
} from "./types.ts";
