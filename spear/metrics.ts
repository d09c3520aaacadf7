/** What a spear measures. What happens for each delivery is only counted, and read when Prometheus asks. */
import { type Opened, openMetrics, type Registry } from "@gru/shared/metrics";
import { pause } from "@gru/shared/pause";
import { type Broker, InDoubtError } from "./broker/broker.ts";
import { type Disconnect, disconnects } from "./disconnects.ts";
import type { Canary } from "./hub/canary.ts";
import type { Hub } from "./hub/hub.ts";
import { LastMinute, type Minute } from "./last_minute.ts";
import type { Frame } from "./packets.ts";
import type { Counts } from "./session/context.ts";
import type { Asked, Cause } from "./session/intake.ts";
import type { Session } from "./session/session.ts";
import type { Submit } from "./session/submit.ts";
import type { Refusals } from "./refusals.ts";
import { code as codes, isEventName } from "./wire.ts";

export const spearMetrics = {
  gru_spear_connections: { type: "gauge", help: "Open connections of clients" },
  gru_spear_connections_limit: { type: "gauge", help: "Connections that the node takes at most" },
  gru_spear_users: { type: "gauge", help: "Users connected to this node, each once" },
  gru_spear_groups: { type: "gauge", help: "Groups with members on this node" },
  gru_spear_messages_total: {
    type: "counter",
    help:
      "Messages of clients and of the API, repetitions too; result: accepted, refused (not sent), dropped (above the rate of its group), or in_doubt (sent or not)",
    labels: ["result"],
  },
  gru_spear_deliveries_total: {
    type: "counter",
    help: "Messages given to connections, live or from history, one for each connection",
  },
  gru_spear_publish_seconds: {
    type: "histogram",
    help:
      "From the request for an id to the broker's answer; one accepted message of each millisecond",
  },
  gru_spear_delivery_seconds: {
    type: "histogram",
    help:
      "From when a message was accepted, on any node, to when it was given to the members here, who have write_wait before them; one message of each millisecond",
  },
  gru_spear_write_wait_seconds: {
    type: "histogram",
    help: "How long a message waited for its turn to be written; the longest of each 200 ms",
  },
  gru_spear_waiting_bytes: {
    type: "gauge",
    help: "Bytes that wait for clients to read them, over all connections",
  },
  gru_spear_recoveries_total: {
    type: "counter",
    help: "Returns with a position (since); recovered: true if nothing was missing",
    labels: ["recovered"],
  },
  gru_spear_missed_total: {
    type: "counter",
    help: "Messages that clients were told they do not get, one for each connection",
  },
  gru_spear_events_total: {
    type: "counter",
    help: "Events of clients; code: 0 for success, else the errorCode, or in_doubt",
    labels: ["event", "code"],
  },
  gru_spear_overloaded_total: {
    type: "counter",
    help:
      "What was refused because the node had more to do than it could; cause: its thread, or the broker",
    labels: ["asked", "cause"],
  },
  gru_spear_disconnects_total: {
    type: "counter",
    help: "Ended connections; reason: client, or why the node ended it",
    labels: ["reason"],
  },
  gru_spear_repairs_total: {
    type: "counter",
    help: "Gaps in a target's messages that were closed from history",
  },
  gru_spear_broker_connected: {
    type: "gauge",
    help: "1 while messages can be accepted and received",
  },
  gru_spear_rocketmq_direct: {
    type: "gauge",
    help: "Mode rocketmq: 1 while messages reach this node through RocketMQ, 0 while over Redis",
  },
  gru_spear_rocketmq_sent_total: {
    type: "counter",
    help:
      "Mode rocketmq: by way; direct and mailbox: texts with messages for one node, detour: messages sent over Redis at once",
    labels: ["way"],
  },
  gru_spear_rocketmq_faults_total: {
    type: "counter",
    help: "Mode rocketmq: how often messages of this node may have been stored and not sent",
  },
  gru_spear_rocketmq_waiting_chars: {
    type: "gauge",
    help: "Mode rocketmq: length of the texts on their way to other nodes",
  },
  gru_spear_rocketmq_round_trip_seconds: {
    type: "gauge",
    help: "Mode rocketmq: how long the last probe took from this node through RocketMQ and back",
  },
  gru_spear_draining: { type: "gauge", help: "1 while the node gets no new clients" },
  gru_spear_canary_seconds: {
    type: "gauge",
    help: "The slowest way of the canary from another node to this one, one way",
  },
  gru_spear_canary_lost_total: { type: "counter", help: "Canary messages that never arrived here" },
  gru_spear_canary_silent: {
    type: "gauge",
    help: "Live nodes whose canary has not come for three periods",
  },
} as const;

/** What each kind of disconnect is counted as: the names in the table of disconnects. */
const reasons = new Map<Disconnect, string>(
  Object.entries(disconnects).map(([reason, disconnect]) => [disconnect, reason]),
);

const createTimeField = '"createTime":';
const createTimeDigits = 13;
/** Connections looked at in one turn while Prometheus waits. */
const perTurn = 1000;

/** What is known elsewhere and read when Prometheus asks. */
export interface Measured {
  readonly sessions: ReadonlySet<Session>;
  readonly connectionsLimit: number;
  readonly hub: Pick<Hub<Session>, "targets" | "members">;
  readonly broker: Pick<Broker, "connected" | "carrier">;
  readonly canary: Pick<Canary<Session>, "heard" | "lost" | "silent"> | undefined;
  readonly isDraining: () => boolean;
}

export class SpearMetrics implements Counts {
  readonly #now: () => number;
  readonly #refusals: Refusals | undefined;
  readonly #results = { accepted: 0, refused: 0, dropped: 0, in_doubt: 0 };
  readonly #events = new Map<string, number>();
  readonly #overloaded = new Map<string, number>();
  /** All from the beginning, so that the first one of a kind is seen as an increase. */
  readonly #disconnects = new Map([...reasons.values(), "client"].map((reason) => [reason, 0]));
  readonly #recoveries = { true: 0, false: 0 };
  readonly #minute = new LastMinute();
  #deliveries = 0;
  #missed = 0;
  #repairs = 0;
  #opened: Opened<typeof spearMetrics> | undefined;
  // Histograms are too slow for each message: one of each millisecond is enough.
  #publishedAt = 0;
  #deliveredAt = 0;

  /** @param now Unix milliseconds, as in messages */
  constructor(now: () => number, refusals?: Refusals) {
    this.#now = now;
    this.#refusals = refusals;
  }

  open(
    registry: Registry,
    { sessions, connectionsLimit, hub, broker, canary, isDraining }: Measured,
  ): void {
    this.#opened = openMetrics(registry, spearMetrics, {
      gru_spear_connections: () => sessions.size,
      gru_spear_connections_limit: () => connectionsLimit,
      gru_spear_users: () => inhabited(hub, "u:"),
      gru_spear_groups: () => inhabited(hub, "g:"),
      gru_spear_messages_total: () =>
        Object.entries(this.#results).map(([result, n]) => [{ result }, n] as const),
      gru_spear_deliveries_total: () => this.#deliveries,
      gru_spear_waiting_bytes: () => waitingBytes(sessions),
      gru_spear_recoveries_total: () =>
        Object.entries(this.#recoveries).map(([recovered, n]) => [{ recovered }, n] as const),
      gru_spear_missed_total: () => this.#missed,
      gru_spear_events_total: () =>
        [...this.#events].map(([key, n]) => {
          const [event = "", code = ""] = key.split(" ");
          return [{ event, code }, n] as const;
        }),
      gru_spear_overloaded_total: () =>
        [...this.#overloaded].map(([key, n]) => {
          const [asked = "", cause = ""] = key.split(" ");
          return [{ asked, cause }, n] as const;
        }),
      gru_spear_disconnects_total: () =>
        [...this.#disconnects].map(([reason, n]) => [{ reason }, n] as const),
      gru_spear_repairs_total: () => this.#repairs,
      gru_spear_broker_connected: () => broker.connected ? 1 : 0,
      gru_spear_rocketmq_direct: () => broker.carrier && (broker.carrier.direct ? 1 : 0),
      gru_spear_rocketmq_sent_total: () =>
        Object.entries(broker.carrier?.sent ?? {}).map(([way, n]) => [{ way }, n] as const),
      gru_spear_rocketmq_faults_total: () => broker.carrier?.faults ?? 0,
      gru_spear_rocketmq_waiting_chars: () => broker.carrier?.waiting,
      gru_spear_rocketmq_round_trip_seconds: () => secondsOf(broker.carrier?.roundTripMs),
      gru_spear_draining: () => isDraining() ? 1 : 0,
      gru_spear_canary_seconds: () => slowestSeconds(canary),
      gru_spear_canary_lost_total: () => canary?.lost ?? 0,
      gru_spear_canary_silent: () => canary?.silent ?? 0,
    });
  }

  lastMinute(): Minute {
    return this.#minute.read();
  }

  /** The same submissions, counted. */
  counting(submit: Submit): Submit {
    return async (submission) => {
      const startedAt = performance.now();
      try {
        const accepted = await submit(submission);
        if (accepted.dropped) {
          this.#results.dropped++;
          return accepted;
        }
        this.#results.accepted++;
        const at = performance.now();
        if (at - this.#publishedAt >= 1) {
          this.#publishedAt = at;
          this.#opened?.gru_spear_publish_seconds.observe((at - startedAt) / 1000);
        }
        return accepted;
      } catch (error) {
        if (error instanceof InDoubtError) this.#results.in_doubt++;
        else this.refused();
        throw error;
      }
    };
  }

  refused(): void {
    this.#results.refused++;
    this.#minute.add("refused");
  }

  /** It had more to do than it could. */
  overloaded(asked: Asked, cause: Cause): void {
    add(this.#overloaded, `${asked} ${cause}`);
  }

  /** A frame is about to be given to its members. */
  fannedOut({ text }: Frame, members: number): void {
    this.#deliveries += members;
    const now = this.#now();
    if (now === this.#deliveredAt) return;
    this.#deliveredAt = now;
    const at = text.indexOf(createTimeField) + createTimeField.length;
    // Clocks of two nodes differ by a little.
    const ms = Math.max(0, now - Number(text.slice(at, at + createTimeDigits)));
    if (Number.isNaN(ms)) return;
    this.#opened?.gru_spear_delivery_seconds.observe(ms / 1000);
    this.#minute.delivered(ms);
  }

  delivered(frames: number): void {
    this.#deliveries += frames;
  }

  waited(seconds: number): void {
    this.#opened?.gru_spear_write_wait_seconds.observe(seconds);
  }

  recovery(recovered: boolean): void {
    this.#recoveries[`${recovered}`]++;
  }

  missed(messages: number): void {
    this.#missed += messages;
    this.#minute.add("missed", messages);
  }

  repaired(): void {
    this.#repairs++;
  }

  /** Names that clients think up are counted as one. */
  event(name: string, code: number | "in_doubt", client: () => string): void {
    const known = isEventName(name) ? name : "other";
    add(this.#events, `${known} ${code}`);
    if (code === codes.success) return;
    this.#minute.add("errors");
    this.#refusals?.add(known, code, client());
  }

  disconnected(why: Disconnect | undefined): void {
    if (why === disconnects.slowConsumer) this.#minute.add("cutOff");
    add(this.#disconnects, why === undefined ? "client" : reasons.get(why) ?? "other");
  }
}

function inhabited(hub: Measured["hub"], kind: "u:" | "g:"): number {
  let count = 0;
  for (const target of hub.targets()) {
    if (target.startsWith(kind) && hub.members(target).size > 0) count++;
  }
  return count;
}

function add(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

async function waitingBytes(sessions: ReadonlySet<Session>): Promise<number> {
  let [sum, seen] = [0, 0];
  for (const { connection } of sessions) {
    sum += connection.waitingBytes;
    if (++seen % perTurn === 0) await pause(0);
  }
  return sum;
}

function slowestSeconds(canary: Measured["canary"]): number | undefined {
  const ways = canary?.heard().flatMap(({ latencyMs }) => latencyMs === null ? [] : [latencyMs]);
  return ways === undefined || ways.length === 0 ? undefined : Math.max(...ways) / 1000;
}

function secondsOf(ms: number | undefined): number | undefined {
  return ms === undefined || Number.isNaN(ms) ? undefined : ms / 1000;
}
