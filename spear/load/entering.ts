/** How the clients of one process come in: where each connects to, how many at once, and again where it fails. */
import { pause } from "@gru/shared/pause";
import { openCentrifugoLine } from "./centrifugo_line.ts";
import { LatencyCounts } from "./latency.ts";
import type { Line, LineOptions } from "./line.ts";
import type { LoadPlan } from "./plan.ts";
import { openSocketIoLine } from "./socket_io_line.ts";

export interface Entered {
  readonly seconds: number;
  /** Failed attempts that were repeated. */
  readonly retries: number;
  /** From a client's first attempt until it was in. */
  readonly latencies: LatencyCounts;
}

/** Calls `enter` for each, at most `connecting` at a time, and again every second or two while it fails. */
export async function enterAll<T>(
  clients: Iterable<T>,
  { connecting, retryMs = 0 }: Pick<LoadPlan, "connecting" | "retryMs">,
  enter: (client: T) => Promise<void>,
): Promise<Entered> {
  const began = performance.now();
  const latencies = new LatencyCounts();
  let retries = 0;
  const enterOne = async (client: T) => {
    const first = performance.now();
    for (;;) {
      try {
        await enter(client);
        return latencies.add((performance.now() - first) * 1000);
      } catch (error) {
        if (performance.now() - first >= retryMs) throw error;
        retries++;
        await pause(1000 + Math.random() * 1000);
      }
    }
  };
  const waiting = clients[Symbol.iterator]();
  await Promise.all(Array.from({ length: connecting }, async () => {
    for (let next = waiting.next(); !next.done; next = waiting.next()) await enterOne(next.value);
  }));
  return { seconds: (performance.now() - began) / 1000, retries, latencies };
}

export type LineWanted = Omit<LineOptions, "host" | "port" | "localAddress" | "token">;

/** Opens the connection in the protocol of the plan, at the place that the ticket gives, or else at one of `targets` in turn. */
export async function openLine(
  { protocol = "4", ticket, sources }: LoadPlan,
  targets: readonly string[],
  number: number,
  wanted: LineWanted,
): Promise<Line> {
  const { addr, token } = ticket === undefined
    ? { addr: targets[number % targets.length] ?? "", token: "" }
    : await askForTicket(ticket, wanted.user);
  const { hostname: host, port } = new URL(addr);
  const options = {
    ...wanted,
    ...{ host, port: Number(port), token },
    localAddress: sources[Math.floor(number / targets.length) % sources.length],
  };
  return protocol === "centrifugo"
    ? await openCentrifugoLine(options)
    : await openSocketIoLine(options, protocol);
}

async function askForTicket(ticket: string, user: number) {
  const query = `userId=${user}&userName=load${user}&appType=load&token1=load`;
  const response = await fetch(`${ticket}/ticket?${query}`);
  const { success, msg, data } = await response.json();
  if (!success) throw new Error(`no ticket for user ${user}: ${msg}`);
  return data as { readonly addr: string; readonly token: string };
}
