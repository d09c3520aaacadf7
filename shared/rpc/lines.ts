/**
 * Calls over one connection that stays open, for methods that are called for every message (`often`): a request of its own costs
 * several times as much as the call.
 *
 * The caller asks for it by `GET /<service>` with `Upgrade: gru-rpc` and its proof. After the answer, 101 with the callee's proof,
 * each end sends lines. The caller: `<seal> <number of the call> <method> <milliseconds left> <JSON>`. The callee, in any order:
 * `<seal> <number of the call> <HTTP status> <JSON>`. The seal proves the cluster key, for this line at this place of this
 * connection; it is `-` without a key. A line that is none, or whose seal is wrong, ends the connection.
 */
import type { Socket } from "node:net";

export const lineProtocol = "gru-rpc";

/** Who sends it. */
export type LineSide = "caller" | "callee";

/** @param place how many lines this side has sent before on this connection */
export type Seal = (side: LineSide, place: number, line: string) => string;

export interface LinesOptions {
  readonly socket: Socket;
  /** Undefined: without a cluster key. */
  readonly seal: Seal | undefined;
  /** Of this end. */
  readonly side: LineSide;
  /** The longest line that is read, UTF-16 units; and how many bytes may wait for an end that does not read. */
  readonly mostWaiting: number;
  /** Gets the words of a line: as many as given, the last with all the rest. Returns false for a line that is none. */
  readonly words: number;
  readonly onLine: (words: readonly string[]) => boolean;
}

/** One end of such a connection. */
export class Lines {
  readonly #options: LinesOptions;
  #sent = 0;
  #received = 0;
  #rest = "";

  constructor(options: LinesOptions) {
    this.#options = options;
    const { socket } = options;
    socket.setNoDelay(true);
    socket.setTimeout(0);
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => this.#read(text));
    socket.on("error", () => socket.destroy());
    socket.on("end", () => socket.destroy());
  }

  send(...words: readonly (string | number)[]): void {
    const { socket, seal, side, mostWaiting } = this.#options;
    if (socket.destroyed) return;
    const line = words.join(" ");
    socket.write(`${seal?.(side, this.#sent++, line) ?? "-"} ${line}\n`);
    if (socket.writableLength > mostWaiting) socket.destroy();
  }

  #read(text: string): void {
    const { socket, mostWaiting } = this.#options;
    const all = this.#rest + text;
    let from = 0;
    for (let to; (to = all.indexOf("\n", from)) >= 0; from = to + 1) {
      if (socket.destroyed) return;
      if (!this.#take(all.slice(from, to))) return void socket.destroy();
    }
    this.#rest = all.slice(from);
    if (this.#rest.length > mostWaiting) socket.destroy();
  }

  #take(sealed: string): boolean {
    const { seal, side, words, onLine } = this.#options;
    const space = sealed.indexOf(" ");
    const line = sealed.slice(space + 1);
    const other = side === "caller" ? "callee" : "caller";
    const expected = seal?.(other, this.#received++, line) ?? "-";
    // Whoever guesses has one try for each connection: the time that it takes tells nothing of use.
    if (sealed.slice(0, space) !== expected) return false;
    const found: string[] = [];
    let from = 0;
    while (found.length < words - 1) {
      const to = line.indexOf(" ", from);
      if (to < 0) return false;
      found.push(line.slice(from, to));
      from = to + 1;
    }
    return onLine([...found, line.slice(from)]);
  }
}
