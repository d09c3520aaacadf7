/** The embedded default: all five programs and two spears in one process, with memory engines. Nothing to install. */
import { z } from "zod";
import { type Idgen, idgenSchema, startIdgen } from "../../idgen/idgen.ts";
import { idgenContract } from "@gru/idgen/contract";
import { loadConfig } from "@gru/shared/config";
import { logSchema } from "@gru/shared/log";
import { MemoryRegistry } from "@gru/shared/registry_memory";
import { localClient } from "@gru/shared/rpc/local";
import { statContract } from "@gru/stat/contract";
import { minionsSchema, startMinions } from "../../minions/minions.ts";
import { MemoryBus } from "../../spear/broker_memory.ts";
import { spearSchema } from "../../spear/config.ts";
import { startSpear } from "../../spear/spear.ts";
import { startStat, statSchema } from "../../stat/stat.ts";
import { startTicket, ticketSchema } from "../../ticket/ticket.ts";

const port = z.int().min(0).max(65_535);

export const upSchema = z.strictObject({
  host: z.string().min(1).describe("the address to listen on; one that only this machine reaches"),
  ports: z.strictObject({
    ticket: port,
    spear1: port.describe("for clients; one above it health and metrics"),
    spear2: port.describe("for clients; one above it health and metrics"),
    stat: port.describe("RPC, health and metrics"),
    statHttp: port,
    idgen: port,
    minions: port,
  }),
  log: logSchema,
});

export type UpConfig = z.output<typeof upSchema>;

export interface Up extends AsyncDisposable {
  /** What each address is for, and the address. */
  readonly addresses: Readonly<Record<UpAddress, string>>;
}

export type UpAddress = "ticket" | "spear1" | "spear2" | "stat" | "idgen" | "minions";

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
      profile("stat", statSchema, ports.stat, { httpPort: ports.statHttp, redis: "memory:" }),
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
  const spears = [];
  for (const config of spearConfigs) spears.push(stack.use(await startSpear(config, shared)));

  const ticket = stack.use(
    await startTicket(profile("ticket", ticketSchema, ports.ticket), { registry }),
  );
  const minions = stack.use(
    await startMinions(profile("minions", minionsSchema, ports.minions), { registry }),
  );

  const running = stack.move();
  return {
    addresses: {
      ticket: ticket.address,
      spear1: spears[0]?.address ?? "",
      spear2: spears[1]?.address ?? "",
      stat: `http://${host}:${stat.httpPort}`,
      idgen: idgen.address,
      minions: minions.address,
    },
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}
