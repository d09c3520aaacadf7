/** The embedded default: all five programs and two spears in one process, with memory engines. Nothing to install. */
import { z } from "zod";
import { type Idgen, idgenSchema, startIdgen } from "../../idgen/idgen.ts";
import { idgenContract } from "@gru/idgen/contract";
import { reachableHostSchema } from "@gru/shared/address";
import { loadConfig } from "@gru/shared/config";
import { logSchema } from "@gru/shared/log";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { originOf, serveHttp } from "@gru/shared/http/serve";
import { localClient } from "@gru/shared/rpc/local";
import { statContract } from "@gru/stat/contract";
import { minionsSchema, startMinions } from "../../minions/minions.ts";
import { MemoryBus } from "../../spear/broker/memory.ts";
import { spearSchema } from "../../spear/config.ts";
import { exampleHandler } from "../../spear/client/example/serve.ts";
import { startStat, statSchema } from "../../stat/stat.ts";
import { startTicket, ticketSchema } from "../../ticket/ticket.ts";
import { sameOrigin } from "../http/same_origin.ts";
import { RunningSpears } from "./running_spears.ts";

const port = z.int().min(0).max(65_535);

export const upSchema = z.strictObject({
  host: reachableHostSchema().default("127.0.0.1").describe(
    "the address to listen on; one that only this machine reaches",
  ),
  ports: z.strictObject({
    ticket: port.default(30_000).describe("tickets"),
    spear1: port.default(31_001).describe("clients; one above it health and metrics"),
    spear2: port.default(31_003).describe("clients; one above it health and metrics"),
    stat: port.default(32_000).describe("RPC, health and metrics of stat"),
    statHttp: port.default(50_000).describe("the HTTP API"),
    idgen: port.default(33_000).describe("RPC, health and metrics of idgen"),
    minions: port.default(40_000).describe("the web console"),
    example: port.default(60_000).describe("the example application, a chat"),
  }).prefault({}),
  log: logSchema,
});

export type UpConfig = z.output<typeof upSchema>;

export interface Up extends AsyncDisposable {
  /** What each address is for, and the address. */
  readonly addresses: Readonly<Record<UpAddress, string>>;
  /** Where the RPC, health and metrics are of the programs that have another port for them. */
  readonly inner: Readonly<Record<"stat" | "spear1", string>>;
}

export type UpAddress = "ticket" | "spear1" | "spear2" | "stat" | "idgen" | "minions" | "example";

export async function startUp(
  { host, ports, log }: UpConfig,
  environment: (name: string) => string | undefined = Deno.env.get,
): Promise<Up> {
  await using stack = new AsyncDisposableStack();
  const registry = stack.use(new MemoryRegistry());

  /** A program's own dev profile, with what is different in one process. */
  function profile<S extends z.ZodObject>(
    program: string,
    schema: S,
    port: number,
    flags: Record<string, string | number> = {},
  ): z.output<S> {
    const all = { host, port, registry: "memory:", "log.level": log.level, ...flags };
    return loadConfig({
      program,
      schema,
      profiles: new URL(`../../${program}/profiles/`, import.meta.url),
      environment,
      args: Object.entries(all).map(([key, value]) => `--${key}=${value}`),
    });
  }

  const idgen: Idgen = stack.use(
    await startIdgen(profile("idgen", idgenSchema, ports.idgen), { registry }),
  );
  const stat = stack.use(
    await startStat(
      profile("stat", statSchema, ports.stat, {
        httpPort: ports.statHttp,
        redis: "memory:",
        // For GET /events.
        "hooks.enabled": "true",
      }),
      { registry },
    ),
  );

  const spearConfigs = [ports.spear1, ports.spear2].map((port, i) =>
    // When all stop together there is nowhere to move to.
    profile("spear", spearSchema, port, { id: i + 1, mode: "single", drainMs: 0 })
  );
  const [first] = spearConfigs;
  const shared = {
    registry,
    bus: new MemoryBus(first?.history ?? { size: 0, ageMs: 0 }),
    idgen: localClient(idgenContract, idgen.handlers),
    stat: localClient(statContract, stat.handlers),
  };
  const spears = stack.use(await RunningSpears.start(spearConfigs, shared));

  const ticket = stack.use(
    await startTicket(profile("ticket", ticketSchema, ports.ticket), { registry }),
  );
  const minions = stack.use(
    await startMinions(profile("minions", minionsSchema, ports.minions), { registry }),
  );

  const stopNode = (name: string) => spears.stopForAWhile(name);
  const show = exampleHandler({ ticket: ticket.address, stopNode });
  const refuse = sameOrigin({ names: [host], namesOnly: true, linked: ["/"] });
  const example = stack.use(
    await serveHttp({
      ...{ host, port: ports.example, drainMs: 0 },
      handler: (request) => refuse(request) ?? show(request),
    }),
  );

  const running = stack.move();
  return {
    addresses: {
      ticket: ticket.address,
      spear1: spears.get("spear1")?.address ?? "",
      spear2: spears.get("spear2")?.address ?? "",
      stat: originOf("http", host, stat.httpPort),
      idgen: idgen.address,
      minions: minions.address,
      example: example.origin,
    },
    inner: {
      stat: originOf("http", host, stat.port),
      spear1: spears.get("spear1")?.monitorAddress ?? "",
    },
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}
