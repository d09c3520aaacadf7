/** What `deno task load` can do. */
import type { Asked, ScenarioName } from "./flags.ts";
import type { Protocol } from "./line.ts";
import { faultsOf } from "./ledger.ts";
import { type Connecting, Load, type LoadConnected, type LoadOptions } from "./load.ts";
import { type Host, hostOf, idleFigures } from "./host.ts";

export interface Report {
  readonly connecting: Connecting;
  readonly result: Readonly<Record<string, number>>;
  /** A guarantee did not hold. */
  readonly failed: boolean;
}

export interface Scenario {
  readonly text: string;
  run(asked: Asked, onProgress: LoadOptions["onProgress"]): Promise<Report>;
}

export const scenarios: Readonly<Record<ScenarioName, Scenario>> = {
  rooms: {
    text: "messages to groups",
    run: (asked, onProgress) =>
      withLoad({ ...optionsOf(asked), onProgress }, async ({ load }) => {
        if (!asked.track) return { result: await measured(load, asked) };
        const counts = await load.track(asked.number("rate"), asked.number("seconds"));
        return { result: { ...counts }, failed: anyOf(faultsOf(counts)) };
      }),
  },
  unicast: {
    text: "messages to single users, each to the next one; the clients are in no group",
    run: (asked, onProgress) =>
      withLoad({ ...optionsOf(asked), unicast: true, onProgress }, async ({ load }) => ({
        result: await measured(load, asked),
      })),
  },
  storm: {
    text: "all clients connect at once; whoever fails tries again. Then messages to groups",
    run: (asked, onProgress) => {
      const options = optionsOf(asked);
      const connecting = asked.text("connecting") === ""
        ? Math.ceil(options.clients / options.workers)
        : options.connecting;
      return withLoad({ ...options, connecting, onProgress }, async ({ load, ...connected }) => ({
        result: {
          allInSeconds: options.clients / connected.connectionsPerSecond,
          ...await measured(load, asked),
        },
      }));
    },
  },
  recovery: {
    text:
      "messages to groups; half-way all receiving connections are cut at once and come back with the position of their last " +
      "message. Prints what was recovered (came because of the position), delivered, lost, doubled, inverted, untold, and how many " +
      "clients were told that all came (wholly) or that something may be missing (partly); ends with 1 when a message is lost, " +
      "doubled, inverted or untold",
    run: (asked, onProgress) =>
      withLoad({ ...optionsOf(asked), recovery: true, onProgress }, async ({ load }) => {
        const result = await load.recover(asked.number("rate"), asked.number("seconds"));
        const { lost, doubled, inverted, untold } = result;
        return { result: { ...result }, failed: anyOf({ lost, doubled, inverted, untold }) };
      }),
  },
  idle: {
    text:
      "clients that only keep their connections: memory and CPU of the servers for each, where these run on this machine",
    run: async (asked, onProgress) => {
      const host = await hostOf(asked);
      const before = await host?.usage();
      return await withLoad({ ...optionsOf(asked), onProgress }, async ({ load }) => {
        await load.rest(asked.number("warmup"));
        return { result: await idle(load, asked, host, before) };
      });
    },
  },
};

async function idle(
  load: Load,
  asked: Asked,
  host: Host | undefined,
  before: Awaited<ReturnType<Host["usage"]>> | undefined,
): Promise<Report["result"]> {
  const rested = await host?.usage();
  const lost = await load.rest(asked.number("seconds"));
  const after = await host?.usage();
  const figures = before && rested && after
    ? idleFigures({ before, rested, after }, asked.number("clients"), asked.number("seconds"))
    : {};
  return { ...figures, lost };
}

async function measured(load: Load, asked: Asked): Promise<Report["result"]> {
  const rate = asked.number("rate");
  if (asked.number("warmup") > 0) await load.run(rate, asked.number("warmup"));
  return { ...await load.run(rate, asked.number("seconds")) };
}

async function withLoad(
  options: LoadOptions,
  use: (connected: LoadConnected) => Promise<{ result: Report["result"]; failed?: boolean }>,
): Promise<Report> {
  const connected = await Load.connect(options);
  const { load, ...connecting } = connected;
  await using _load = load;
  return { connecting, failed: false, ...await use(connected) };
}

function optionsOf({ track, text, number }: Asked): LoadOptions {
  const list = (value: string) => value.split(",").filter((one) => one !== "");
  return {
    track,
    protocol: text("protocol") as Protocol,
    targets: list(text("target")).map((address) => new URL(address).origin),
    ticket: text("ticket") === "" ? undefined : new URL(text("ticket")).origin,
    clients: number("clients"),
    groups: number("groups"),
    content: number("content"),
    workers: number("workers"),
    senders: number("senders"),
    connecting: number("connecting"),
    retryMs: number("retry") * 1000,
    awayMs: number("away") * 1000,
    sources: list(text("sources")),
    firstUser: number("first-user"),
    core: text("core") === "" ? undefined : number("core"),
  };
}

function anyOf(faults: Readonly<Record<string, number>> | object): boolean {
  return Object.values(faults).some((count) => count > 0);
}
