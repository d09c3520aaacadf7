/** A hundred honest clients that talk beside an attack, and what becomes of their messages. For tests. */
import { LatencyCounts } from "../../spear/load/latency.ts";
import { RawClient } from "../../spear/load/raw_client.ts";
import { PollingClient } from "../../spear/socket/testing.ts";
import { waitFor } from "@gru/shared/testing/harness";
import { type Endpoint, type Form } from "./attack_line.ts";
import { group } from "./attackers.ts";

/** Since {@linkcode HonestCrowd.begin}. */
export interface Figures {
  readonly sent: number;
  /** Deliveries that did not come, or came twice. */
  readonly lost: number;
  /** Attempts that were refused; the client sends again, as the answer says. */
  readonly refused: number;
  /** How, of each connection that has ended since the crowd came in. */
  readonly ended: readonly string[];
  /** From sending until a member had it. */
  readonly p50Ms: number;
  readonly p99Ms: number;
}

const clients = 100;
const groupSize = 10;
const perSecond = 200;
const retryMs = 200;

interface Sent {
  readonly atMs: number;
  /** Who has not had it yet. */
  readonly missing: Set<number>;
}

export class HonestCrowd implements AsyncDisposable {
  readonly #members: Member[] = [];
  readonly #underWay = new Map<string, Sent>();
  #latencies = new LatencyCounts();
  #sent = 0;
  #wrong = 0;
  #refused = 0;
  readonly #ended: string[] = [];
  #next = 0;
  #ticking: ReturnType<typeof setInterval> | undefined;
  #leaving = false;

  /** @param token of a user, as ticket gives it */
  static async enter(
    endpoint: Endpoint,
    token: (userId: number) => Promise<string>,
  ): Promise<HonestCrowd> {
    const crowd = new HonestCrowd();
    for (let i = 0; i < clients; i++) {
      // One in ten polls, and each second one speaks Engine.IO 3.
      const transport = i % 10 === 7 ? "polling" : "websocket";
      const member = new Member(i, (packet) => crowd.#take(i, packet), (how) => {
        if (!crowd.#leaving) crowd.#ended.push(how);
      });
      await member.enter(endpoint, { transport, engine: i % 20 < 10 ? 4 : 3 }, await token(i + 1));
      crowd.#members.push(member);
    }
    const began = performance.now();
    let done = 0;
    crowd.#ticking = setInterval(() => {
      const due = (performance.now() - began) * perSecond / 1000;
      while (done < due) {
        done++;
        crowd.#send();
      }
    }, 5);
    return crowd;
  }

  begin(): void {
    this.#latencies = new LatencyCounts();
    this.#sent = 0;
    this.#wrong = 0;
    this.#refused = 0;
  }

  /** Waits until all has come that was sent. */
  async figures(): Promise<Figures> {
    const due = [...this.#underWay.values()];
    await waitFor(() => due.every(({ missing }) => missing.size === 0), { timeoutMs: 40_000 })
      .catch(() => {});
    const never = due.reduce((sum, { missing }) => sum + missing.size, 0);
    return {
      ...{ sent: this.#sent, lost: this.#wrong + never, refused: this.#refused },
      ended: [...this.#ended],
      p50Ms: this.#latencies.quantileMs(0.5),
      p99Ms: this.#latencies.quantileMs(0.99),
    };
  }

  #send(): void {
    const from = this.#next++;
    const member = this.#members[from % clients];
    const first = Math.floor(from % clients / groupSize) * groupSize;
    const missing = new Set(Array.from({ length: groupSize }, (_, i) => first + i));
    this.#underWay.set(`${from}`, { atMs: performance.now(), missing });
    this.#sent++;
    member?.say(`${from}`);
  }

  #take(i: number, packet: string): void {
    const [, content = ""] = /^\d*\["msg",.*"content":"(\d+)"/.exec(packet) ?? [];
    if (content !== "") {
      const sent = this.#underWay.get(content);
      if (sent === undefined || !sent.missing.delete(i)) {
        this.#wrong++;
        return;
      }
      this.#latencies.add((performance.now() - sent.atMs) * 1000);
      if (sent.missing.size === 0) this.#underWay.delete(content);
      return;
    }
    const [, refused, answer] = /^3(\d+)\[(\{"success":false.*)\]$/.exec(packet) ?? [];
    if (refused === undefined || answer === undefined) return;
    this.#refused++;
    const again = JSON.parse(answer).data?.retryAfterMs ?? retryMs;
    setTimeout(() => !this.#leaving && this.#members[i]?.say(refused), again);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#leaving = true;
    clearInterval(this.#ticking);
    await Promise.all(this.#members.map((member) => member[Symbol.asyncDispose]()));
  }
}

/** One honest client, user `i + 1`, in the group of its ten. */
class Member implements AsyncDisposable {
  readonly #i: number;
  readonly #onPacket: (packet: string) => void;
  readonly #onEnd: (how: string) => void;
  #post: (packet: string) => void = () => {};
  #close: () => void = () => {};
  #ended: Promise<unknown> = Promise.resolve();

  constructor(i: number, onPacket: (packet: string) => void, onEnd: (how: string) => void) {
    this.#i = i;
    this.#onPacket = onPacket;
    this.#onEnd = onEnd;
  }

  get #group(): number {
    return group.honest + Math.floor(this.#i / groupSize);
  }

  async enter(
    endpoint: Endpoint,
    { transport, engine }: Pick<Form, "transport" | "engine">,
    token2: string,
  ): Promise<void> {
    const seen: string[] = [];
    const onPacket = (packet: string) => {
      if (packet.includes("_result")) seen.push(packet);
      this.#onPacket(packet);
    };
    await (transport === "polling"
      ? this.#poll(endpoint, engine, onPacket)
      : this.#connect(endpoint, engine, onPacket));
    const userId = this.#i + 1;
    const ask = async (name: string, argument: unknown) => {
      this.#post(`2${JSON.stringify([name, argument])}`);
      const result = () => seen.find((packet) => packet.includes(`["${name}_result"`));
      await waitFor(() => result() !== undefined, { what: `the answer to ${name}` });
      if (!result()?.includes('"success":true')) throw new Error(`${name}: ${result()}`);
    };
    await ask("auth", { id: userId, token2 });
    const subscribeGroups = [{ id: this.#group }, { id: group.everybody }];
    await ask("subscribe", { userId, subscribeGroups });
    seen.length = 0;
  }

  /** @param content a number; the same again is the same message. */
  say(content: string): void {
    const message = { type: 1, target: { id: this.#group }, content, clientMsgId: content };
    this.#post(`2${content}${JSON.stringify(["msg", message])}`);
  }

  async #connect(
    { host, port }: Endpoint,
    engine: 3 | 4,
    onPacket: (packet: string) => void,
  ): Promise<void> {
    let code = 0;
    const client = await RawClient.connect({
      ...{ host, port, query: `EIO=${engine}&transport=websocket` },
      onPacket: (packet) => onPacket(packet.toString()),
      onClose: () => this.#onEnd(`WebSocket ${code}`),
      onCloseFrame: (received) => code = received,
    });
    // In Engine.IO 3 the client sends the pings.
    const pinging = engine === 3 ? setInterval(() => client.sendEngine("2"), 10_000) : undefined;
    this.#post = (packet) => client.send(packet);
    this.#close = () => {
      clearInterval(pinging);
      client.close();
    };
    this.#ended = client.closed;
  }

  async #poll(
    { host, port }: Endpoint,
    engine: 3 | 4,
    onPacket: (packet: string) => void,
  ): Promise<void> {
    const client = await PollingClient.open(`http://${host}:${port}`, engine);
    const waiting: string[] = [];
    let closed = false;
    let posting: Promise<void> | undefined;
    // One request after the other, with all that waits.
    const post = async (): Promise<void> => {
      while (waiting.length > 0) {
        const answer = await client.post(...waiting.splice(0));
        if (!answer.startsWith("200") && !closed) return this.#onEnd(`POST: ${answer}`);
      }
      posting = undefined;
    };
    const polling = (async () => {
      while (!closed) {
        for (const packet of await client.poll()) {
          if (packet === "2") waiting.push("3");
          else if (packet.startsWith("4")) onPacket(packet.slice(1));
        }
        if (waiting.length > 0) posting ??= post();
      }
    })().catch((error) => closed || this.#onEnd(`GET: ${error}`));
    if (engine === 4) await client.post("40");
    const send = (packet: string) => {
      waiting.push(packet);
      posting ??= post();
    };
    const pinging = engine === 3 ? setInterval(() => send("2"), 10_000) : undefined;
    this.#post = (packet) => send(`4${packet}`);
    this.#close = () => {
      closed = true;
      clearInterval(pinging);
      // The poll that waits is answered.
      send("1");
    };
    this.#ended = polling.then(() => posting).catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#close();
    await this.#ended;
  }
}
