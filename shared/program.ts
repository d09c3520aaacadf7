/** What every `main.ts` shares: read the profile, start, wait for a signal, dispose, say how it ended. */
import type { z } from "zod";
import { ConfigError, HelpRequested, readConfig } from "./config.ts";
import { CannotListenError } from "./http/serve.ts";
import { configureLog, type LogConfig, logger, takeConsole } from "./log.ts";
import type { Readiness } from "./readiness.ts";
import { redact } from "./redact.ts";
import { startFacts } from "./start_facts.ts";
import { openServiceManager } from "./systemd.ts";

export interface Program<S extends z.ZodObject> {
  readonly name: string;
  readonly schema: S;
  readonly profiles: URL;
  /** What the schema cannot see, e.g. files that keys name. `--check` and each start ask. @throws {ConfigError} */
  readonly check?: (config: z.output<S>) => void | Promise<void>;
  /** All that it listens on, 0 for any free one. Default: the keys `port` and `httpPort`. */
  readonly ports?: (config: z.output<S>) => readonly number[];
  /** `stop` is aborted by the first signal; what waits for servers while starting can end at once. */
  readonly start: (config: z.output<S>, stop: AbortSignal) => Promise<Running>;
}

export interface Running extends AsyncDisposable {
  /** The program is up when it serves. Missing: at once. */
  readonly readiness?: Readiness;
}

/**
 * Runs a program to its end and exits the process: 0 after SIGINT or SIGTERM and an orderly stop,
 * 1 when starting or stopping failed, 2 for what starting again does not mend: a bad profile or flag, a port that cannot be had, a
 * server that refuses the credentials. A second signal exits at once.
 */
export async function runProgram<S extends z.ZodObject>(program: Program<S>): Promise<never> {
  const { name } = program;
  try {
    const { config, profile, instead, warnings } = readConfig({
      ...{ ...program, program: name, args: Deno.args },
    });
    await program.check?.(config);
    if (instead !== undefined) {
      for (const warning of warnings) printError(warning);
      print(instead === "check" ? `${name}, profile ${profile}: no error` : instead.print);
      Deno.exit(0);
    }
    const { text, properties } = startFacts(name, config, program.ports?.(config));
    configureLog((config as { log: LogConfig }).log, properties.name);
    const log = logger(name);
    takeConsole(log);
    log.info(text, properties);
    for (const warning of warnings) log.warn("{warning}", { warning });
    await runUntilSignal(name, (stop) => program.start(config, stop));
    Deno.exit(0);
  } catch (error) {
    if (error instanceof HelpRequested) {
      print(error.message);
      Deno.exit(0);
    }
    // The operator puts both right: where in the program it was noticed is of no use to them.
    if (error instanceof ConfigError || error instanceof CannotListenError) {
      printError(redact(error.message));
      Deno.exit(2);
    }
    logger(name).fatal("{program} failed: {error}", { program: name, error: inOneLine(error) });
    if (isRefusal(error)) Deno.exit(2);
    Deno.exit(1);
  }
}

/** Other credentials are needed, of Redis or of ZooKeeper: starting again does not help. */
function isRefusal(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code } = error as { code?: unknown };
  return code === "NO_AUTH" || code === "AUTH_FAILED" ||
    /\b(WRONGPASS|NOAUTH|NOPERM)\b/.test(error.message) || isRefusal(error.cause);
}

/** Without the kind of a defect, for which the log has a stack trace at every level; at the level debug it has one. */
function inOneLine(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { name, message, stack, cause } = error;
  return Object.assign(new Error(message), { name, stack, cause });
}

/** For people who start it; what `console` is given goes to the log. */
export function print(text: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${text}\n`));
}

function printError(text: string): void {
  Deno.stderr.writeSync(new TextEncoder().encode(`${text}\n`));
}

/** What a start that is interrupted may take to end in order; the servers it waits for may be out of reach. */
const interruptedMs = 1500;

/**
 * Starts, waits for SIGINT or SIGTERM, and disposes. A signal that comes while starting ends that soon, whatever is
 * waited for: nobody relies on a program that is not up.
 */
export async function runUntilSignal(
  name: string,
  start: (stop: AbortSignal) => Promise<Running>,
): Promise<void> {
  const log = logger(name);
  const stop = new AbortController();
  const stopped = Promise.withResolvers<void>();
  const late = Promise.withResolvers<void>();
  let signals = 0;
  let isUp = false;
  using manager = openServiceManager(log);
  const onSignal = () => {
    if (++signals > 1) Deno.exit(1);
    manager?.stopping();
    if (!isUp) setTimeout(late.resolve, interruptedMs);
    stop.abort();
    stopped.resolve();
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, onSignal);

  // What is rejected with nobody listening is a defect: written down, but no reason to drop 100 000 clients.
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    log.error("unhandled rejection: {reason}", { reason: event.reason });
  });
  // The runtime would print every field of the error, a driver's command with its arguments among them.
  globalThis.addEventListener("error", (event) => {
    event.preventDefault();
    log.fatal("{name} ends: uncaught error: {error}", { name, error: event.error });
    Deno.exit(1);
  });
  async function run(): Promise<void> {
    await using running = await start(stop.signal);
    isUp = !stop.signal.aborted;
    if (isUp) manager?.started(running.readiness);
    await Promise.race([running.readiness?.whenReady(), stopped.promise]);
    if (isUp && !stop.signal.aborted) log.info("{name} is up", { name });
    await stopped.promise;
    log.info("{name} is stopping", { name });
  }
  try {
    await Promise.race([run(), late.promise]);
  } catch (error) {
    if (isUp || !stop.signal.aborted) throw error;
    log.debug("the start of {name} was interrupted: {error}", { name, error });
  }
  log.info(isUp ? "{name} has stopped" : "{name} has stopped before it was up", { name });
}
