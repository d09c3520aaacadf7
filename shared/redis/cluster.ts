/** Redis Cluster: which server has which of the 16 384 slots, kept up to date, with connections to each of them. */
import { Redis } from "ioredis";
import type { HostAndPort } from "@gru/shared/address";
import { inTime } from "@gru/shared/within";
import {
  closeServer,
  isUsable,
  openServer,
  type RedisServer,
  type RedisTopology,
  type RedisTopologyOptions,
  troubleOf,
} from "./server.ts";

const slots = 16_384;
const lookEveryMs = 1000;
const askMs = 1000;

interface Claim {
  /** `host:port` */
  readonly address: string;
  /** Of two servers that claim a slot the one with the higher epoch has it. */
  readonly epoch: number;
  readonly from: number;
  readonly to: number;
}

export class ClusterRedisTopology implements RedisTopology {
  readonly sharded = true;
  readonly #seeds: readonly HostAndPort[];
  readonly #options: RedisTopologyOptions;
  /** By `host:port`: those that have slots. */
  readonly #servers = new Map<string, RedisServer>();
  readonly #closing = new Set<Promise<void>>();
  readonly #timer: ReturnType<typeof setInterval>;
  #owners: (string | undefined)[] = [];
  #looking: Promise<void> | undefined;
  #lookOnceMore = false;
  /** Why the last node that was asked did not say. */
  #trouble = "";
  #down = false;
  #closed = false;

  constructor(seeds: readonly HostAndPort[], options: RedisTopologyOptions) {
    this.#seeds = seeds;
    this.#options = options;
    this.#timer = setInterval(() => this.#look(), lookEveryMs);
    this.#look();
  }

  get usable(): boolean {
    return this.#servers.size > 0 && this.#servers.values().every(isUsable);
  }

  get trouble(): string {
    if (this.#servers.size === 0) return this.#trouble;
    return this.#servers.values().map(troubleOf).find((trouble) => trouble !== "") ?? "";
  }

  serverOf(tag: string): RedisServer | undefined {
    const owner = this.#owners[slotOf(tag)];
    return owner === undefined ? undefined : this.#servers.get(owner);
  }

  refresh(): void {
    if (this.#looking !== undefined) this.#lookOnceMore = true;
    this.#look();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    await this.#looking;
    await Promise.all([...this.#closing, ...this.#servers.values().map(closeServer)]);
  }

  #look(): void {
    this.#looking ??= this.#lookNow().finally(() => {
      this.#looking = undefined;
      if (!this.#lookOnceMore || this.#closed) return;
      this.#lookOnceMore = false;
      this.#look();
    });
  }

  /** Asks all that can be asked: one that was away for a while does not know it yet. */
  async #lookNow(): Promise<void> {
    const connected = [...this.#servers].filter(([, { commands }]) => commands.usable);
    const views = await Promise.all(
      connected.map(([address, { commands }]) =>
        this.#answer(commands.redis.call("CLUSTER", "NODES"))
          .then((text) => parseView(text, address))
      ),
    );
    if (views.every((view) => view.length === 0)) {
      const known = [...this.#servers.keys()].map(toHostAndPort);
      views.push(...await Promise.all([...this.#seeds, ...known].map((node) => this.#ask(node))));
    }
    const claims = views.flat();
    if (this.#closed) return;
    if (claims.length > 0) this.#apply(claims);
    if ((claims.length === 0) !== this.#down) {
      this.#down = !this.#down;
      const { log, name } = this.#options;
      const reason = this.#trouble;
      if (this.#down) {
        log.warn("{name}: no node of the Redis Cluster answers: {reason}", { name, reason });
      } else log.info("{name}: the Redis Cluster answers", { name });
    }
  }

  #apply(claims: Claim[]): void {
    const owners: (string | undefined)[] = new Array(slots).fill(undefined);
    for (const { address, from, to } of claims.sort((a, b) => a.epoch - b.epoch)) {
      owners.fill(address, from, to + 1);
    }
    const addresses = new Set(owners.filter((owner) => owner !== undefined));
    for (const address of addresses) {
      if (this.#servers.has(address)) continue;
      const name = `${this.#options.name}-${address}`;
      this.#servers.set(address, openServer(toHostAndPort(address), { ...this.#options, name }));
    }
    const moved = owners.some((owner, slot) => owner !== this.#owners[slot]);
    this.#owners = owners;
    for (const [address, server] of this.#servers) {
      if (addresses.has(address)) continue;
      this.#servers.delete(address);
      const closing = closeServer(server).finally(() => this.#closing.delete(closing));
      this.#closing.add(closing);
    }
    if (moved) this.#options.onChange?.();
  }

  /** Over a connection for this question only. */
  async #ask(node: HostAndPort): Promise<Claim[]> {
    const { username, password } = this.#options;
    const redis = new Redis({
      ...node,
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
      lazyConnect: true,
      retryStrategy: () => null,
      connectTimeout: askMs,
      socketTimeout: askMs,
      enableReadyCheck: false,
    });
    let reason = "";
    redis.on("error", ({ message }: Error) => reason = message);
    const ended = new Promise((resolve) => redis.once("end", resolve));
    const text = await this.#answer(
      redis.connect().then(() => redis.call("CLUSTER", "NODES")),
    );
    if (text === "" && reason !== "") this.#trouble = reason;
    if (redis.status !== "end") {
      redis.disconnect();
      redis.stream?.destroy();
    }
    await ended;
    return parseView(text, `${node.host}:${node.port}`);
  }

  /** "" when there was none in time. */
  #answer(asking: Promise<unknown>): Promise<string> {
    const late = () => new Error(`no answer within ${askMs} ms`);
    return inTime(asking, askMs, late).then(String, ({ message }: Error) => {
      this.#trouble = message;
      return "";
    });
  }
}

/**
 * The slots of each primary as `CLUSTER NODES` tells them, one node a line:
 * `id host:port@bus[,hostname] flags primary ping pong epoch link slot|from-to|[migrating] …`
 * @param address of the node asked, which may not know its own
 */
export function parseView(text: string, address: string): Claim[] {
  return text.split("\n").flatMap((line) => {
    const [, place = "", flags = "", , , , epoch, , ...ranges] = line.trim().split(" ");
    if (!flags.split(",").includes("master")) return [];
    const listed = /^(.*:\d+)@/.exec(place)?.[1] ?? "";
    return ranges.filter((range) => !range.startsWith("[")).map((range) => {
      const [from = 0, to = from] = range.split("-").map(Number);
      return { address: listed.startsWith(":") ? address : listed, epoch: Number(epoch), from, to };
    });
  });
}

function toHostAndPort(address: string): HostAndPort {
  const colon = address.lastIndexOf(":");
  return { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
}

const encoder = new TextEncoder();

/** CRC-16/XMODEM of the hash tag, as Redis Cluster specifies. */
export function slotOf(tag: string): number {
  let crc = 0;
  for (const byte of encoder.encode(tag)) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = (crc << 1) ^ (crc & 0x8000 ? 0x1021 : 0);
    crc &= 0xffff;
  }
  return crc % slots;
}
