/** What a client sends: socket.io's packets, read by its own parser. */
import { Decoder, type Packet, PacketType } from "socket.io-parser";
import { nestsDeeper } from "../wire.ts";

export interface Incoming {
  readonly type: "connect" | "disconnect" | "event" | "acknowledgement" | "error";
  readonly namespace: string;
  /** What was sent with an event, its name first, or with an acknowledgement. */
  readonly args: readonly unknown[];
  /** Given where an event's client wants an answer. */
  readonly id: number | undefined;
  /** How many binary messages belong to it and follow. */
  readonly attachments: number;
}

const types: Readonly<Record<number, Incoming["type"]>> = {
  [PacketType.CONNECT]: "connect",
  [PacketType.DISCONNECT]: "disconnect",
  [PacketType.EVENT]: "event",
  [PacketType.ACK]: "acknowledgement",
  [PacketType.CONNECT_ERROR]: "error",
};

/** An argument that nests too deep for its event is refused; this much is not parsed, and no client's. */
const maxLevels = 100;

/** As many as socket.io takes. */
const maxAttachments = 10;

/**
 * One for all connections: it keeps something only between a packet and its attachments, and it gets no packet that
 * has any.
 */
const decoder = new Decoder();
let decoded: Packet | undefined;
decoder.on("decoded", (packet: Packet) => decoded = packet);

/** @throws {Error} where it is no packet of socket.io */
export function read(text: string): Incoming {
  const binary = /^[56](\d+)-/.exec(text);
  const attachments = binary === null ? 0 : Number(binary[1]);
  if (attachments > maxAttachments || (binary !== null && attachments < 1)) {
    throw new Error("too many attachments, or none");
  }
  if (binary === null && /^[56]/.test(text)) throw new Error("a binary packet without attachments");
  if (nestsDeeper(text, maxLevels)) throw new Error("nested too deep");
  // Arguments of events are JSON: attachments are read and forgotten, in their place stays what says that one was
  // there.
  decoder.add(
    binary === null ? text : `${text[0] === "5" ? "2" : "3"}${text.slice(binary[0].length)}`,
  );
  const packet = decoded;
  decoded = undefined;
  const type = packet === undefined ? undefined : types[packet.type];
  if (packet === undefined || type === undefined) throw new Error("unknown packet");
  const args = Array.isArray(packet.data) ? packet.data : [];
  return { type, namespace: packet.nsp, args, id: packet.id, attachments };
}
