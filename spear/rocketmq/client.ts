/**
 * The two clients of npm:rocketmq-client-nodejs as this node uses them. The library's clients may hang, throw where nobody
 * can catch, continue after they were closed, and know a topic's brokers only as they were at the start. This file works
 * around that.
 */
import "./modules.ts";
import { Buffer } from "node:buffer";
import { Duplex } from "node:stream";
import { format } from "node:util";
import { formatHostAndPort, isHost, parseHostAndPort } from "@gru/shared/address";
import type { Logger } from "@gru/shared/log";
import { pause } from "@gru/shared/pause";
import { inTime } from "@gru/shared/within";
import {
  FilterExpression,
  type MessageView,
  Producer,
  PublishingMessage,
  SendReceipt,
  SimpleConsumer,
} from "rocketmq-client-nodejs";
import definitions from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb.js";
import stubs from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/service_grpc_pb.js";
import services from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/service_pb.js";

export interface RocketmqAccess {
  readonly accessKey?: string | undefined;
  readonly secretKey?: string | undefined;
  readonly tls?: boolean | undefined;
  /** PEM; with `tls`, in place of the authorities that the system trusts. */
  readonly ca?: string | undefined;
}

export interface ClientOptions extends RocketmqAccess {
  /** `host:port` or `[::1]:port` of a proxy. */
  readonly proxy: string;
  readonly topic: string;
  readonly log: Logger;
}

/** How long the server may delay the answer to a request for messages; the least that it accepts. */
const pollMs = 5000;
/**
 * A message that was delivered and not acknowledged is delivered again after this time; the least that the server
 * accepts.
 */
const invisibleMs = 10_000;
const requestMs = 3000;
const messagesPerReceive = 32;
/** A server that answers but sends no settings would block the start for ever. */
const startMs = 6000;
const startRetryMs = 200;

/** The library cannot pass authorities on; a process has one profile, and so one set of them. */
let authorities: string | undefined;

/**
 * gRPC's own settings would wait up to two minutes before a reconnect, and not notice a server that is cut off. The
 * library has no option for them, but looks up its stub here.
 */
stubs.MessagingServiceClient = class extends stubs.MessagingServiceClient {
  constructor(
    ...[address, credentials]: ConstructorParameters<typeof stubs.MessagingServiceClient>
  ) {
    super(grpcTarget(address), trusting(credentials), {
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 1000,
      "grpc.keepalive_time_ms": 10_000,
      "grpc.keepalive_timeout_ms": 3000,
    });
  }
};

type Credentials = ConstructorParameters<typeof stubs.MessagingServiceClient>[1];

function trusting(credentials: Credentials): Credentials {
  const kind = credentials.constructor as unknown as {
    createSsl(roots: Buffer): Credentials;
  };
  const secure = (credentials as unknown as { _isSecure(): boolean })._isSecure();
  return secure && authorities !== undefined
    ? kind.createSsl(Buffer.from(authorities))
    : credentials;
}

/**
 * The library writes an IPv6 address without brackets, also one that a server reports; gRPC then takes all of it for
 * the host.
 */
function grpcTarget(address: string): string {
  const [, host = "", port = ""] = /^(.*):(\d+)$/.exec(address) ?? [];
  return parseHostAndPort(address) === undefined && isHost(host)
    ? formatHostAndPort({ host, port: Number(port) })
    : address;
}

/**
 * The library splits an IPv6 address given as text at its colons, so it gets the parsed form in which servers report
 * addresses.
 */
function connectTo(client: Sender | Receiver, address: string): void {
  const { host = "", port } = parseHostAndPort(address) ?? {};
  if (!host.includes(":")) return;
  const { endpoints } = client as unknown as { readonly endpoints: object };
  const scheme = definitions.AddressScheme.IPV6;
  Object.assign(endpoints, { scheme, addressesList: [{ host, port }], facade: `${host}:${port}` });
}

/** Both start, or what went wrong is thrown; the stack closes them. */
export async function openClients(
  stack: AsyncDisposableStack,
  options: ClientOptions,
  consumer: { readonly group: string; readonly tag: string },
  signal: AbortSignal,
): Promise<{ readonly sender: Sender; readonly receiver: Receiver }> {
  const common = settingsOf(options);
  const sender = await start(stack, new Sender({ ...common, maxAttempts: 1 }), options, signal);
  const receiver = new Receiver({
    ...common,
    consumerGroup: consumer.group,
    subscriptions: new Map([[options.topic, consumer.tag]]),
    awaitDuration: pollMs,
  });
  return { sender, receiver: await start(stack, receiver, options, signal) };
}

function settingsOf({ proxy, topic, log, accessKey, secretKey, tls = false, ca }: ClientOptions) {
  if (tls) authorities = ca;
  const write = (...line: unknown[]) =>
    log.debug("RocketMQ's client: {line}", () => ({ line: format(...line) }));
  return {
    endpoints: proxy,
    namespace: "",
    sslEnabled: tls,
    ...(accessKey === undefined || secretKey === undefined
      ? {}
      : { sessionCredentials: { accessKey, accessSecret: secretKey } }),
    topics: [topic],
    requestTimeout: requestMs,
    // The client's own logger would write under the home directory.
    logger: { info() {}, debug() {}, warn: write, error: write },
  };
}

async function start<C extends Sender | Receiver>(
  stack: AsyncDisposableStack,
  client: C,
  { proxy }: ClientOptions,
  signal: AbortSignal,
): Promise<C> {
  connectTo(client, proxy);
  stack.defer(contain(client));
  const closing = Promise.withResolvers<never>();
  const stop = () => closing.reject(signal.reason);
  signal.addEventListener("abort", stop);
  const late = () => new Error("RocketMQ sent no settings");
  try {
    signal.throwIfAborted();
    await inTime(Promise.race([client.startup(), closing.promise]), startMs, late);
  } finally {
    signal.removeEventListener("abort", stop);
  }
  return client;
}

/** What the library keeps to itself. */
interface Inner {
  readonly rpcClientManager: Record<string, ((...given: never[]) => unknown) | undefined> & {
    sendMessage(
      endpoints: unknown,
      request: unknown,
      ms: number,
    ): Promise<Parameters<typeof SendReceipt.processResponseInvocation>[1]>;
  };
  updateRoutes(): Promise<void>;
  readonly topicRouteCache: Map<string, unknown>;
}

/**
 * A producer that sends by the topic's brokers as they are now; the library's own knows those of its start for ever.
 */
export class Sender extends Producer {
  /**
   * @param way messages of one way stay in one queue; another way may lead to another broker, which is chosen here or by
   * the proxy
   */
  async post(topic: string, tag: string, way: number, text: string): Promise<void> {
    const { messageQueues } = await this.getRouteData(topic);
    const { WRITE, READ_WRITE } = definitions.Permission;
    const writable = messageQueues.filter(({ permission }) =>
      permission === WRITE || permission === READ_WRITE
    );
    const brokers = [...new Map(writable.map((queue) => [queue.broker.name, queue])).values()];
    const queue = brokers[(hash(tag) + way) % brokers.length];
    if (queue === undefined) throw new Error(`topic ${topic} has no writable queue`);
    if (!queue.acceptMessageTypesList.includes(definitions.MessageType.FIFO)) {
      throw new Error(`topic ${topic} is not of type FIFO`);
    }
    const messageGroup = way === 0 ? tag : `${tag}.${way}`;
    const message = new PublishingMessage(
      { topic, tag, messageGroup, body: Buffer.from(text) },
      this.publishingSettings,
      false,
    );
    const request = new services.SendMessageRequest();
    request.addMessages(message.toProtobuf("", queue));
    const { rpcClientManager } = this as unknown as Inner;
    const response = await rpcClientManager.sendMessage(queue.broker.endpoints, request, requestMs);
    SendReceipt.processResponseInvocation(queue, response);
  }

  async refresh(): Promise<void> {
    await (this as unknown as Inner).updateRoutes();
  }
}

export type Broker = Awaited<ReturnType<Receiver["brokers"]>>[number];

/**
 * A consumer that polls every broker separately; the library's own polls them in turn, each for the whole poll time.
 */
export class Receiver extends SimpleConsumer {
  /** One readable queue of each broker: the server picks from all queues of that broker. */
  async brokers(topic: string) {
    const { messageQueues } = await this.getRouteData(topic);
    return [...new Map(messageQueues.map((queue) => [queue.broker.name, queue])).values()];
  }

  async refresh(): Promise<void> {
    await (this as unknown as Inner).updateRoutes();
  }

  poll(broker: Broker, tag: string): Promise<MessageView[]> {
    const filter = new FilterExpression(tag);
    const request = this.wrapReceiveMessageRequest(
      ...[messagesPerReceive, broker, filter, invisibleMs, pollMs] as const,
    );
    return this.receiveMessage(request, broker, pollMs);
  }

  /**
   * Acknowledges all at once; the library's own sends one request for each.
   * @param topic with its namespace, which the messages themselves do not name
   */
  async acknowledge(topic: string, messages: readonly MessageView[]): Promise<void> {
    const [first] = messages;
    if (first === undefined) return;
    const resource = (name: string) => new definitions.Resource().setName(name);
    const request = new services.AckMessageRequest()
      .setGroup(resource(this.consumerGroup))
      .setTopic(resource(topic));
    for (const { messageId, receiptHandle } of messages) {
      request.addEntries().setMessageId(messageId).setReceiptHandle(receiptHandle);
    }
    const response = await this.ackMessageViaRpc(first.endpoints, request, requestMs);
    const { status, entriesList } = response.toObject();
    const { OK, MULTIPLE_RESULTS, INVALID_RECEIPT_HANDLE } = definitions.Code;
    // Too late, or of a broker that has begun anew: such a message comes again.
    const harmless: readonly unknown[] = [OK, MULTIPLE_RESULTS, INVALID_RECEIPT_HANDLE];
    if (harmless.includes(status?.code)) return;
    throw new Error(`not acknowledged: ${entriesList[0]?.status?.message ?? status?.message}`);
  }
}

function hash(text: string): number {
  let sum = 0;
  for (let i = 0; i < text.length; i++) sum = (sum * 31 + text.charCodeAt(i)) >>> 0;
  return sum;
}

/** Makes a client harmless, and returns the only way to close it that always ends and frees everything. */
function contain(client: Sender | Receiver): () => Promise<void> {
  let closed = false;
  const waiting = new AbortController();
  Object.assign(client, {
    // Between the attempts to start.
    sleep: () => pause(startRetryMs, waiting.signal),
  });
  const inner = client as unknown as Inner;
  const update = inner.updateRoutes.bind(client);
  Object.assign(client, {
    // A start under way would continue when the client is closed, and leave its timers.
    updateRoutes: async () => {
      if (!closed) await update();
      if (!closed) return;
      inner.topicRouteCache.clear();
      throw new Error("closed");
    },
  });
  const { rpcClientManager: calls } = inner;
  for (const name of Object.getOwnPropertyNames(Object.getPrototypeOf(calls))) {
    const call = calls[name];
    if (name === "constructor" || name === "close" || call === undefined) continue;
    // A call after the end would open a channel that nobody closes, with an interval that never ends.
    calls[name] = (...given: never[]) => {
      if (closed) throw new Error("closed");
      return call.apply(calls, given);
    };
  }
  const createStream = client.createTelemetryStream.bind(client);
  client.createTelemetryStream = (endpoints) => {
    // A timer opens a new stream a second after one has broken, even if the client was closed in the meantime.
    if (closed) return inertStream() as ReturnType<typeof createStream>;
    const stream = createStream(endpoints);
    // The client removes its listeners before the streams have ended: a later error would be uncaught.
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
      // The servers that a closing client notifies. If none answers, that would throw before anything is freed.
      getTotalRouteEndpoints: () => [],
    });
    await client.shutdown();
  };
}

function inertStream(): unknown {
  return new Duplex({ objectMode: true, read() {}, write: (_chunk, _encoding, done) => done() });
}
