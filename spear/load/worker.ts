/**
 * One process of the load generator: a share of the members, and its own connections that send. Reads commands as lines
 * of JSON and answers with lines of JSON; `load.ts` starts it.
 */
import { Buffer } from "node:buffer";
import { LatencyCounts } from "./latency.ts";
import type { LoadCommand, LoadPlan, WorkerConnected, WorkerCount, WorkerResult } from "./plan.ts";
import { RawClient } from "./raw_client.ts";
import { TrackWorker } from "./track_worker.ts";

/** The least time between two bursts, milliseconds. */
const tickMs = 1;

/** Of socket.io's packet that answers an event: `3`. */
const answerType = 51;

/** Marks the microseconds in a message, and their number of digits. */
const stamp = { mark: "@t", digits: 12 } as const;

class LoadWorker {
  readonly #plan: LoadPlan;
  readonly #senders: RawClient[] = [];
  #next = 0;
  #sent = 0;
  #accepted = 0;
  #refused = 0;
  #expected = 0;
  #received = 0;
  #lost = 0;
  #latencies = new LatencyCounts();
  /** The last place of the stamp: it rarely changes within a group. */
  #stampAt = 0;
  #chunk: Buffer | undefined;
  #chunkAt = 0;

  constructor(plan: LoadPlan) {
    this.#plan = plan;
  }

  async connect(): Promise<WorkerConnected> {
    const { clients, workers, worker, senders, connecting, retryMs = 0 } = this.#plan;
    const began = performance.now();
    const mine = Math.ceil((clients - worker) / workers);
    const latencies = new LatencyCounts();
    let retries = 0;
    const enter = async (i: number) => {
      const first = performance.now();
      for (;;) {
        try {
          await this.#member(i);
          return latencies.add((performance.now() - first) * 1000);
        } catch (error) {
          if (performance.now() - first >= retryMs) throw error;
          retries++;
          await pause(1000 + Math.random() * 1000);
        }
      }
    };
    let at = 0;
    await Promise.all(Array.from({ length: connecting }, async () => {
      while (at < mine) await enter(worker + at++ * workers);
    }));
    const seconds = (performance.now() - began) / 1000;
    for (let i = 0; i < senders; i++) this.#senders.push(await this.#sender(i));
    return { connected: mine, seconds, retries, latencies: latencies.entries() };
  }

  /** Open loop: messages are sent on time, however many have been delivered so far. */
  async send(perSecond: number, seconds: number): Promise<void> {
    const due = Math.round(perSecond * seconds);
    const began = performance.now();
    for (let sent = 0; sent < due;) {
      const dueNow = Math.floor((performance.now() - began) * perSecond / 1000) + 1;
      for (; sent < Math.min(dueNow, due); sent++) this.#message();
      const nextMs = began + sent * 1000 / perSecond;
      if (sent < due) await pause(Math.max(Math.ceil(nextMs - performance.now()), tickMs));
    }
  }

  get count(): WorkerCount {
    return { received: this.#received, expected: this.#expected };
  }

  /** Counts from 0 again. */
  result(): WorkerResult {
    const result = {
      sent: this.#sent,
      accepted: this.#accepted,
      refused: this.#refused,
      expected: this.#expected,
      received: this.#received,
      latencies: this.#latencies.entries(),
      lost: this.#lost,
    };
    this.#sent =
      this.#accepted =
      this.#refused =
      this.#expected =
      this.#received =
        0;
    this.#latencies = new LatencyCounts();
    return result;
  }

  async #member(i: number): Promise<void> {
    const { clients, groups, firstUser, firstGroup = 1 } = this.#plan;
    const user = firstUser + i;
    const group = firstGroup + Math.floor(i * groups / clients);
    await this.#enter(
      this.#plan.targets,
      i,
      user,
      {
        onBytes: (data, start, end) => this.#receive(data, start, end),
      },
      `21["subscribe",{"userId":${user},"subscribeGroups":[{"id":${group}}]}]`,
    );
  }

  #sender(i: number): Promise<RawClient> {
    const { clients, worker, senders, firstUser, targets, sendTo = targets } = this.#plan;
    const number = worker * senders + i;
    return this.#enter(sendTo, number, firstUser + clients + number, {
      onBytes: (data, start) => {
        // `3<id>[{"success":true,…`, where the id is that of the group and one more
        const open = data.indexOf("[", start);
        if (data.toString("latin1", open + 2, open + 16) === '"success":true') this.#accepted++;
        else if (data[start] === answerType) {
          this.#refused++;
          this.#expected -= this.#membersOf(Number(data.toString("latin1", start + 1, open)) - 1);
        }
      },
    });
  }

  /** Resolves when the connection is authenticated and the packet `then`, with id 1, was answered with success. */
  async #enter(
    targets: readonly string[],
    number: number,
    user: number,
    receiver: { readonly onBytes: (data: Buffer, start: number, end: number) => void },
    then?: string,
  ): Promise<RawClient> {
    const { ticket, sources } = this.#plan;
    const localAddress = sources[Math.floor(number / targets.length) % sources.length];
    const place = ticket === undefined
      ? { addr: targets[number % targets.length] ?? "", token: "" }
      : await askForTicket(ticket, user);
    const { hostname, port } = new URL(place.addr);
    const answered = Promise.withResolvers<void>();
    // The connection may close before anybody waits for the answer.
    answered.promise.catch(() => {});
    let awaited = 2;
    const client = await RawClient.connect({
      host: hostname,
      port: Number(port),
      ...(localAddress === undefined ? {} : { localAddress }),
      onBytes: (data, start, end) => {
        if (awaited === 0) return receiver.onBytes(data, start, end);
        const text = data.toString("utf8", start, end);
        if (!/^3\d+\[/.test(text)) return receiver.onBytes(data, start, end);
        if (!text.includes('"success":true')) {
          return answered.reject(new Error(`user ${user} at ${place.addr}: ${text}`));
        }
        if (--awaited === 0) answered.resolve();
      },
      onClose: () => {
        if (awaited === 0) this.#lost++;
        answered.reject(new Error(`${place.addr} closed the connection of user ${user}`));
      },
    });
    if (then === undefined) awaited = 1;
    client.send(
      `20["auth",${
        JSON.stringify({ id: user, name: `load${user}`, appType: "load", token2: place.token })
      }]`,
    );
    if (then !== undefined) client.send(then);
    try {
      await answered.promise;
    } catch (error) {
      client.close();
      throw error;
    }
    return client;
  }

  #message(): void {
    const { groups, content, workers, worker, firstGroup = 1 } = this.#plan;
    const group = (worker + this.#next * workers) % groups;
    const sender = this.#senders[this.#next++ % this.#senders.length];
    const time = String(Math.round(now() * 1000)).slice(-stamp.digits).padStart(stamp.digits, "0");
    const text = `${stamp.mark}${time}`.padEnd(content, ".");
    sender?.send(
      `2${group + 1}["msg",{"type":1,"target":{"id":${firstGroup + group}},"content":"${text}"}]`,
    );
    this.#sent++;
    this.#expected += this.#membersOf(group);
  }

  /** @param group counted from 0 */
  #membersOf(group: number): number {
    const { clients, groups } = this.#plan;
    return Math.ceil((group + 1) * clients / groups) - Math.ceil(group * clients / groups);
  }

  #receive(data: Buffer, start: number, end: number): void {
    if (this.#chunk !== data) {
      this.#chunk = data;
      this.#chunkAt = Math.round(now() * 1000) % 10 ** stamp.digits;
    }
    let at = start + this.#stampAt;
    // 64 and 116: the mark.
    if (data[at] !== 64 || data[at + 1] !== 116) {
      at = data.indexOf(stamp.mark, start);
      if (at < 0 || at >= end) return;
      this.#stampAt = at - start;
    }
    let sentAt = 0;
    for (let i = at + 2; i < at + 2 + stamp.digits; i++) {
      sentAt = sentAt * 10 + (data[i] ?? 48) - 48;
    }
    this.#received++;
    this.#latencies.add(this.#chunkAt - sentAt);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Milliseconds on a clock that all processes of a machine share. */
function now(): number {
  return performance.timeOrigin + performance.now();
}

async function askForTicket(ticket: string, user: number) {
  const query = `userId=${user}&userName=load${user}&appType=load&token1=load`;
  const response = await fetch(`${ticket}/ticket?${query}`);
  const { success, msg, data } = await response.json();
  if (!success) throw new Error(`no ticket for user ${user}: ${msg}`);
  return data as { readonly addr: string; readonly token: string };
}

/** Executes commands until the input ends; a failed command is answered with `{ "error": … }`. */
export async function runWorker(
  plan: LoadPlan,
  lines: AsyncIterable<string>,
  answer: (line: string) => void,
): Promise<void> {
  const worker = plan.track ? new TrackWorker(plan) : new LoadWorker(plan);
  async function obey(command: LoadCommand): Promise<unknown> {
    switch (command.do) {
      case "connect":
        return await worker.connect();
      case "send":
        return await worker.send(command.perSecond, command.seconds);
      case "count":
        return worker instanceof LoadWorker ? worker.count : null;
      case "result":
        return await worker.result();
    }
  }
  for await (const line of lines) {
    try {
      answer(JSON.stringify({ answer: await obey(JSON.parse(line)) ?? null }));
    } catch (error) {
      answer(JSON.stringify({ error: String(error) }));
    }
  }
}
