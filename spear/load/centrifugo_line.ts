/**
 * A client of Centrifugo: its JSON protocol over WebSocket, https://centrifugal.dev/docs/transports/client_protocol.
 * A frame holds one or more lines. `{}` is a ping of the server, and the client's answer to it.
 */
import type { Buffer } from "node:buffer";
import type { Line, LineOptions, LineTarget } from "./line.ts";
import { type OnBytes, RawWebSocket } from "./raw_web_socket.ts";

const newline = 10;
/** The third character tells `{"push":…}` and `{"id":…}` apart. */
const [pushMark, answerMark] = [..."pi"].map((letter) => letter.charCodeAt(0));

/** The ids of the first two commands of a connection. */
const connectId = 1;
const subscribeId = 2;

class CentrifugoLine extends RawWebSocket implements Line {
  readonly #user: number;
  /** What it subscribes to: a user gets nothing without it. */
  readonly #own: LineTarget;
  readonly #onMessage: OnBytes;
  readonly #onAnswer: LineOptions["onAnswer"];
  readonly #entered = Promise.withResolvers<void>();
  #isIn = false;
  #isOver = false;

  constructor(options: LineOptions) {
    const { host, port, user, group, onLost } = options;
    super({ ...options, path: "/connection/websocket" });
    this.#user = user;
    this.#own = group === undefined ? { user } : { group };
    this.#onMessage = options.onMessage;
    this.#onAnswer = options.onAnswer;
    this.#entered.promise.catch(() => {});
    void this.closed.then(() => {
      if (this.#isIn && !this.#isOver) onLost();
      const place = `http://${host}:${port}`;
      this.#entered.reject(new Error(`${place} closed the connection of user ${user}`));
    });
  }

  async enter(): Promise<void> {
    await this.upgraded;
    this.#command(connectId, { connect: {} });
    this.#command(subscribeId, { subscribe: { channel: channelOf(this.#own) } });
    await this.#entered.promise;
  }

  /** The data has the fields that a spear gives to members, so that frames are about as long as a spear's. */
  publish(target: LineTarget, content: string, id: number): void {
    const [type, to] = "user" in target ? [0, target.user] : [1, target.group];
    const createTime = Date.now();
    const data =
      `{"createTime":${createTime},"fromId":${this.#user},"msgType":${type},"target":{"id":${to},"type":-1},"content":"${content}"}`;
    this.sendText(
      `{"id":${id + subscribeId},"publish":{"channel":"${channelOf(target)}","data":${data}}}`,
    );
  }

  override close(): void {
    this.#isOver = true;
    super.close();
  }

  protected override onText(data: Buffer, start: number, end: number): void {
    for (let from = start; from < end;) {
      const found = data.indexOf(newline, from);
      const to = found < 0 || found > end ? end : found;
      const mark = data[from + 2];
      if (mark === pushMark) this.#onMessage(data, from, to);
      else if (mark === answerMark) this.#answer(data.toString("utf8", from, to));
      else this.sendText("{}");
      from = to + 1;
    }
  }

  #command(id: number, what: object): void {
    this.sendText(JSON.stringify({ id, ...what }));
  }

  #answer(text: string): void {
    const { id, error } = JSON.parse(text);
    if (this.#isIn) return this.#onAnswer?.(id - subscribeId, error === undefined, () => text);
    if (error !== undefined) {
      return this.#entered.reject(new Error(`user ${this.#user}: ${text}`));
    }
    if (id !== subscribeId) return;
    this.#isIn = true;
    this.#entered.resolve();
  }
}

function channelOf(target: LineTarget): string {
  return "user" in target ? `u${target.user}` : `g${target.group}`;
}

/** Resolves when the client is connected and subscribed to the group, or else to what is for the user. @throws {Error} with the server's answer */
export async function openCentrifugoLine(options: LineOptions): Promise<Line> {
  const line = new CentrifugoLine(options);
  try {
    await line.enter();
  } catch (error) {
    line.close();
    throw error;
  }
  return line;
}
