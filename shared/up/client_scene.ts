/** A small cluster in this process whose clients come in through lines that break, and clients on it. For tests of the library. */
import { connect, type ConnectOptions, type Gru } from "@gru/client";
import { loadConfig } from "@gru/shared/config";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { freePort, waitFor } from "@gru/shared/testing/harness";
import { FaultyProxy } from "@gru/shared/testing/proxy";
import { SignJWT } from "jose";
import type { z } from "zod";
import { MemoryBus } from "../../spear/broker/memory.ts";
import { spearSchema } from "../../spear/config.ts";
import { type Spear, type SpearOverrides, startSpear } from "../../spear/spear.ts";
import { startTicket, ticketSchema } from "../../ticket/ticket.ts";
import type { Flags } from "./processes.ts";

const secrets: Readonly<Record<string, string>> = {
  GRU_TOKEN1_SECRET: "business-secret-of-32-characters!",
  GRU_TOKEN2_SECRET: "our-own-secret-of-32-characters-!",
};

/** Quick, so that tests are. */
export const retry = { firstMs: 50, mostMs: 500 };

export interface Node {
  readonly spear: Spear;
  /** Between clients and the node. */
  readonly line: FaultyProxy;
}

export class ClientScene implements AsyncDisposable {
  /** `spear1`, `spear2`, … */
  readonly nodes: ReadonlyMap<string, Node>;
  readonly ticket: string;
  /** Between clients and ticket. */
  readonly ticketLine: FaultyProxy;
  readonly #running: AsyncDisposableStack;
  readonly #clients: AsyncDisposableStack;

  private constructor(
    nodes: ReadonlyMap<string, Node>,
    ticketLine: FaultyProxy,
    running: AsyncDisposableStack,
  ) {
    this.nodes = nodes;
    this.ticketLine = ticketLine;
    this.ticket = `http://${ticketLine.address}`;
    this.#running = running;
    this.#clients = running.use(new AsyncDisposableStack());
  }

  static async start(
    { spears = 2, spearFlags = {}, ticketFlags = {}, overrides = {} }: {
      readonly spears?: number;
      readonly spearFlags?: Flags;
      readonly ticketFlags?: Flags;
      readonly overrides?: SpearOverrides;
    } = {},
  ): Promise<ClientScene> {
    await using stack = new AsyncDisposableStack();
    const registry = stack.use(new MemoryRegistry());
    const bus = new MemoryBus({ size: 1000, ageMs: 300_000 });
    const nodes = new Map<string, Node>();
    for (let id = 1; id <= spears; id++) {
      const port = freePort();
      const line = stack.use(new FaultyProxy({ port }));
      const flags = { id, port, advertise: `http://${line.address}`, mode: "single", drainMs: 0 };
      const config = configOf("spear", spearSchema, { ...flags, ...spearFlags });
      const spear = stack.use(await startSpear(config, { registry, bus, ...overrides }));
      nodes.set(`spear${id}`, { spear, line });
    }
    const ticket = stack.use(
      await startTicket(configOf("ticket", ticketSchema, { port: 0, ...ticketFlags }), {
        registry,
      }),
    );
    const ticketLine = stack.use(new FaultyProxy({ port: Number(new URL(ticket.address).port) }));
    return new ClientScene(nodes, ticketLine, stack.move());
  }

  /** Ends with the scene. */
  connect(id: number, options: Partial<ConnectOptions> = {}): Gru {
    const gru = connect({
      ticket: this.ticket,
      user: { id, name: `user${id}` },
      retry,
      ...options,
    });
    this.#clients.defer(() => gru.close({ waitMs: 0 }));
    return gru;
  }

  /** The node that a client is on. */
  nodeOf({ state }: Gru): Node {
    const node = state.name === "online" ? this.nodes.get(state.node) : undefined;
    if (node === undefined) throw new Error(`the client is ${state.name}`);
    return node;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#clients.disposeAsync();
    await this.#running.disposeAsync();
  }
}

export async function online(...clients: Gru[]): Promise<void> {
  await waitFor(() => {
    for (const { state } of clients) if (state.name === "closed") throw state.why;
    return clients.every(({ state }) => state.name === "online");
  }, { what: "online" });
}

/** token1 of a user with all rights. */
export async function token1(userId: number, lifeMs = 60_000): Promise<string> {
  return await new SignJWT({ sub: String(userId), groups: ["*"] })
    .setProtectedHeader({ alg: "HS256" }).setExpirationTime(new Date(Date.now() + lifeMs))
    .sign(new TextEncoder().encode(secrets["GRU_TOKEN1_SECRET"]));
}

/** The flags that make a cluster verify tokens. */
export const jwt: Flags = { "auth.scheme": "jwt" };

function configOf<S extends z.ZodObject>(program: string, schema: S, flags: Flags): z.output<S> {
  return loadConfig({
    program,
    schema,
    profiles: new URL(`../../${program}/profiles/`, import.meta.url),
    environment: (name) => secrets[name],
    args: Object.entries({ registry: "memory:", "log.level": "error", ...flags })
      .map(([key, value]) => `--${key}=${value}`),
  });
}
