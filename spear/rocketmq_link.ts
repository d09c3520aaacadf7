/**
 * One node's way through RocketMQ: texts to other nodes by their tag, and its own from a consumer group. Built on
 * npm:rocketmq-client-nodejs, whose clients may hang, throw where nobody can catch, and outlive their closing:
 * what is done about that is in this file.
 */
import { Duplex } from "node:stream";
import { setTimeout as pause } from "node:timers/promises";
import { format } from "node:util";
import type { Logger } from "@gru/shared/log";
import {
  FilterExpression,
  type MessageView,
  Producer,
  SimpleConsumer,
} from "rocketmq-client-nodejs";
import definitions from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb.js";
import stubs from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/service_grpc_pb.js";
import services from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/service_pb.js";

/**
 * gRPC's own settings would wait up to two minutes before they try to reconnect, and not notice a server that is cut off.
 * The library has no way to give others, and looks its stub up here.
 */
stubs.MessagingServiceClient = class extends stubs.MessagingServiceClient {
  constructor(
    ...[address, credentials]: ConstructorParameters<typeof stubs.MessagingServiceClient>
  ) {
    super(address, credentials, {
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 1000,
      "grpc.keepalive_time_ms": 10_000,
      "grpc.keepalive_timeout_ms": 3000,
    });
  }
};

export interface RocketmqLinkOptions {
  /** `host:port` of the proxy's gRPC */
  readonly endpoints: string;
  /** Of type FIFO: what one node sends to another stays in one queue, in order. */
  readonly topic: string;
  readonly group: string;
  /** The group belongs to this link alone: only then may it ask for messages. */
  readonly holdsGroup: () => boolean;
  /** What is sent to this tag comes to this link. */
  readonly tag: string;
  readonly receive: (text: string) => void;
  /** The way is open (again); what was sent to the tag before may be late or lost. */
  readonly opened: () => void;
  readonly log: Logger;
}

/** How long the server may hold a request for messages back; the least it accepts. */
const pollMs = 5000;
/** A message that was handed over and not acknowledged comes again after this; the least that the server accepts. */
const invisibleMs = 10_000;
const requestMs = 3000;
const messagesPerReceive = 32;
const probeEveryMs = 1000;
/** The way is closed when no probe has come back for so long. */
const silenceMs = 4000;
/** A client with which nothing works for so long is replaced. */
const patienceMs = 15_000;
const retryMs = 300;
/** A text that cannot be one of a node's own. */
const probe = "probe";

export class RocketmqLink implements AsyncDisposable {
  readonly #options: RocketmqLinkOptions;
  readonly #running: Promise<void>;
  readonly #closing = new AbortController();
  #producer: Producer | undefined;
  #usable = false;
  #closed = false;
  #heardAt = -Infinity;
  #complained = false;

  constructor(options: RocketmqLinkOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  /** What this node sent to itself has lately come back, and no sending has failed since. */
  get usable(): boolean {
    return this.#usable && performance.now() - this.#heardAt < silenceMs;
  }

  /** Resolves when the server has stored it. Rejects in bounded time; it may have been stored nevertheless. */
  async send(tag: string, text: string): Promise<void> {
    if (this.#producer === undefined) throw new Error("RocketMQ is out of reach");
    try {
      await this.#send(this.#producer, tag, text);
    } catch (error) {
      this.#usable = false;
      this.#complain("sending", error);
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      this.#usable = false;
      this.#closing.abort();
      // Ends the request for messages that is under way: it cannot be called back.
      if (this.#producer) {
        await this.#send(this.#producer, this.#options.tag, probe).catch(() => {});
      }
    }
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      try {
        await using clients = new AsyncDisposableStack();
        const producer = await this.#start(
          clients,
          new Producer({ ...this.#common, maxAttempts: 1 }),
        );
        const consumer = await this.#start(
          clients,
          new Receiver({
            ...this.#common,
            consumerGroup: this.#options.group,
            subscriptions: new Map([[this.#options.topic, this.#options.tag]]),
            awaitDuration: pollMs,
          }),
        );
        this.#producer = producer;
        clients.defer(() => this.#producer = undefined);
        const probing = setInterval(() => void this.#probe(producer), probeEveryMs);
        clients.defer(() => clearInterval(probing));
        void this.#probe(producer);
        await this.#receiveAll(consumer);
      } catch (error) {
        this.#complain("starting", error);
      }
      if (!this.#closed) await this.#pause();
    }
  }

  get #common() {
    const { endpoints, topic, log } = this.#options;
    const write = (...line: unknown[]) =>
      log.debug("RocketMQ's client: {line}", () => ({ line: format(...line) }));
    return {
      endpoints,
      namespace: "",
      topics: [topic],
      requestTimeout: requestMs,
      // The client's own would write under the home directory.
      logger: { info() {}, debug() {}, warn: write, error: write },
    };
  }

  /** A server that answers and yet sends no settings would hold the start up for ever. */
  async #start<C extends Producer | Receiver>(
    clients: AsyncDisposableStack,
    client: C,
  ): Promise<C> {
    const close = contain(client);
    clients.defer(close);
    const over = new AbortController();
    const signal = AbortSignal.any([over.signal, this.#closing.signal]);
    const late = pause(patienceMs, undefined, { signal });
    try {
      await Promise.race([
        client.startup(),
        late.then(() => {
          throw new Error("RocketMQ sent no settings");
        }),
      ]);
    } finally {
      over.abort();
      late.catch(() => {});
    }
    return client;
  }

  /** One loop for each broker, until the brokers change, nothing works any more, or the link is closed. */
  async #receiveAll(consumer: Receiver): Promise<void> {
    const brokers = await consumer.brokers(this.#options.topic);
    const over = { value: false };
    await Promise.all(brokers.map(async (broker) => {
      try {
        let workedAt = performance.now();
        while (!this.#closed && !over.value) {
          if (!this.#options.holdsGroup()) {
            this.#usable = false;
            await this.#pause();
            continue;
          }
          try {
            this.#take(consumer, await consumer.poll(broker, this.#options.tag));
            workedAt = performance.now();
          } catch (error) {
            this.#usable = false;
            this.#complain("receiving", error);
            if (performance.now() - workedAt > patienceMs) return;
            await this.#pause();
          }
          if (!sameBrokers(brokers, await consumer.brokers(this.#options.topic))) return;
        }
      } finally {
        over.value = true;
      }
    }));
  }

  #take(consumer: Receiver, messages: readonly MessageView[]): void {
    if (messages.length === 0) return;
    // One that is not acknowledged only comes again, and is known then.
    consumer.acknowledge(messages).catch(() => {});
    let heard = false;
    for (const { body, tag } of messages) {
      if (tag !== this.#options.tag) continue;
      const text = body.toString();
      if (text === probe) heard = true;
      else this.#options.receive(text);
    }
    if (heard) this.#hear();
  }

  #hear(): void {
    const wasUsable = this.usable;
    this.#heardAt = performance.now();
    if (this.#closed || wasUsable) return;
    this.#usable = true;
    if (this.#complained) this.#options.log.info("RocketMQ is back");
    this.#complained = false;
    this.#options.opened();
  }

  async #probe(producer: Producer): Promise<void> {
    try {
      await this.#send(producer, this.#options.tag, probe);
    } catch (error) {
      this.#usable = false;
      this.#complain("sending", error);
    }
  }

  async #send(producer: Producer, tag: string, text: string): Promise<void> {
    const { topic } = this.#options;
    await producer.send({ topic, tag, messageGroup: tag, body: Buffer.from(text) });
  }

  #complain(action: string, error: unknown): void {
    if (this.#complained || this.#closed) return;
    this.#complained = true;
    this.#options.log.warn("RocketMQ is out of reach: {action} failed: {error}", { action, error });
  }

  async #pause(): Promise<void> {
    await pause(retryMs, undefined, { signal: this.#closing.signal }).catch(() => {});
  }
}

type Broker = Awaited<ReturnType<Receiver["brokers"]>>[number];

/** A consumer that asks every broker for itself; the library's own asks them in turn, each time for the whole poll. */
class Receiver extends SimpleConsumer {
  /** A queue of each broker that may be read: the server picks from all queues of that broker. */
  async brokers(topic: string) {
    const { messageQueues } = await this.getRouteData(topic);
    return [...new Map(messageQueues.map((queue) => [queue.broker.name, queue])).values()];
  }

  poll(broker: Broker, tag: string): Promise<MessageView[]> {
    const filter = new FilterExpression(tag);
    const request = this.wrapReceiveMessageRequest(
      ...[messagesPerReceive, broker, filter, invisibleMs, pollMs] as const,
    );
    return this.receiveMessage(request, broker, pollMs);
  }

  /** All at once; the library's own takes a request for each. */
  async acknowledge(messages: readonly MessageView[]): Promise<void> {
    const [first] = messages;
    if (first === undefined) return;
    const resource = (name: string) => new definitions.Resource().setName(name);
    const request = new services.AckMessageRequest()
      .setGroup(resource(this.consumerGroup))
      .setTopic(resource(first.topic));
    for (const { messageId, receiptHandle } of messages) {
      request.addEntries().setMessageId(messageId).setReceiptHandle(receiptHandle);
    }
    await this.ackMessageViaRpc(first.endpoints, request, requestMs);
  }
}

function sameBrokers(ones: readonly Broker[], others: readonly Broker[]): boolean {
  const names = new Set(others.map(({ broker }) => broker.name));
  return ones.length === names.size && ones.every(({ broker }) => names.has(broker.name));
}

/** Makes a client harmless, and gives the only way to close it that always ends and frees everything. */
function contain(client: Producer | Receiver): () => Promise<void> {
  let closed = false;
  const waiting = new AbortController();
  Object.assign(client, {
    // Between the attempts to start.
    sleep: (ms: number) => pause(ms, undefined, { signal: waiting.signal }).catch(() => {}),
  });
  const createStream = client.createTelemetryStream.bind(client);
  client.createTelemetryStream = (endpoints) => {
    // A timer asks for a new stream a second after one has broken, also when the client has been closed meanwhile.
    if (closed) return inertStream() as ReturnType<typeof createStream>;
    const stream = createStream(endpoints);
    // The client lets go of its streams before they have ended: an error that comes later would be uncaught.
    const forget = stream.removeAllListeners.bind(stream);
    stream.removeAllListeners = (...events: [(string | symbol)?]) => {
      forget(...events);
      if (events.length === 0) stream.on("error", () => {});
      return stream;
    };
    return stream;
  };
  return async () => {
    closed = true;
    waiting.abort();
    Object.assign(client, {
      // A start that is under way would go on, and leave its timers.
      updateRoutes: () => Promise.reject(new Error("closed")),
      // To whom it says goodbye. Where nobody answers that would throw, before anything is freed.
      getTotalRouteEndpoints: () => [],
    });
    await client.shutdown();
  };
}

function inertStream(): unknown {
  return new Duplex({ objectMode: true, read() {}, write: (_chunk, _encoding, done) => done() });
}
