/** What tests of the broker over Redis share. */
import { logger } from "@gru/shared/log";
import { waitFor } from "@gru/shared/testing/harness";
import { RedisBroker } from "./broker.ts";
import type { BrokerCluster } from "../broker/testing.ts";

/** The nodes of a broker over the Redis at `url`; `through` may give each another way there. */
export function brokersOver(
  url: string,
  options: {
    readonly through?: () => { readonly port: number } & AsyncDisposable;
    readonly loseData?: () => Promise<void>;
  } = {},
): BrokerCluster {
  const stack = new AsyncDisposableStack();
  const received = new Map<unknown, CountingProxy>();
  let opened = 0;
  return {
    open: async (sink, settings) => {
      const way = options.through && stack.use(options.through());
      const broker = new RedisBroker({
        url: way === undefined ? url : `redis://127.0.0.1:${way.port}`,
        node: `spear${++opened}`,
        log: logger("spear"),
        ...settings,
      }, sink);
      if (way instanceof CountingProxy) received.set(broker, way);
      await waitFor(() => broker.connected, { what: "a broker that is connected" });
      return broker;
    },
    received: (broker) => received.get(broker)?.received ?? NaN,
    ...(options.loseData === undefined ? {} : { loseData: options.loseData }),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** Passes everything on, counts the bytes that come from the server, and can hold one request back. */
export class CountingProxy implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #connections = new Set<Deno.Conn>();
  readonly #serving: Promise<void>;
  #held: Held | undefined;
  received = 0;

  constructor(port: number) {
    this.#serving = this.#serve(port);
  }

  get port(): number {
    return this.#listener.addr.port;
  }

  /** Keeps the next request that contains the word to itself and ends the client's side of that connection. */
  holdNext(word: string): { readonly sprung: () => boolean; deliver(): Promise<string> } {
    const answer = Promise.withResolvers<string>();
    const held: Held = this.#held = { word, request: undefined, server: undefined, answer };
    return {
      sprung: () => held.server !== undefined,
      /** Resolves to what the server answers to it. */
      deliver: async () => {
        await held.server?.write(held.request ?? new Uint8Array());
        return await answer.promise;
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const connection of this.#connections) connection.close();
    this.#connections.clear();
    await this.#serving;
  }

  async #serve(port: number): Promise<void> {
    const pumps: Promise<void>[] = [];
    for await (const client of this.#listener) {
      const server = await Deno.connect({ hostname: "127.0.0.1", port });
      this.#connections.add(client).add(server);
      pumps.push(this.#toServer(client, server), this.#toClient(server, client));
    }
    await Promise.all(pumps);
  }

  #toServer(client: Deno.Conn, server: Deno.Conn): Promise<void> {
    return this.#pump(client, server, (chunk) => {
      const held = this.#held;
      if (held === undefined || held.server !== undefined) return true;
      if (!new TextDecoder().decode(chunk).includes(held.word)) return true;
      held.request = chunk.slice();
      held.server = server;
      this.#end(client);
      return false;
    });
  }

  #toClient(server: Deno.Conn, client: Deno.Conn): Promise<void> {
    return this.#pump(server, client, (chunk) => {
      this.received += chunk.length;
      if (this.#held?.server !== server) return true;
      this.#held.answer.resolve(new TextDecoder().decode(chunk));
      return false;
    });
  }

  /** Passes on what `look` wants to be passed on, until either side ends. */
  async #pump(
    from: Deno.Conn,
    to: Deno.Conn,
    look: (chunk: Uint8Array) => boolean,
  ): Promise<void> {
    const buffer = new Uint8Array(65_536);
    try {
      for (let length; (length = await from.read(buffer)) !== null;) {
        const chunk = buffer.subarray(0, length);
        if (!look(chunk)) continue;
        for (let sent = 0; sent < length;) sent += await to.write(chunk.subarray(sent));
      }
    } catch {
      // Either side went away.
    }
    for (const connection of [from, to]) {
      if (connection !== this.#held?.server) this.#end(connection);
    }
  }

  #end(connection: Deno.Conn): void {
    if (this.#connections.delete(connection)) connection.close();
  }
}

interface Held {
  readonly word: string;
  readonly answer: PromiseWithResolvers<string>;
  request: Uint8Array | undefined;
  /** Set from when it is held back. */
  server: Deno.Conn | undefined;
}
