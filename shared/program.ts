/** What every `main.ts` shares: read the profile, start, wait for a signal, dispose, say how it ended. */
import type { z } from "zod";
import { ConfigError, HelpRequested, loadConfig } from "./config.ts";
import { configureLog, type LogConfig, logger } from "./log.ts";

export interface Program<S extends z.ZodObject> {
  readonly name: string;
  readonly schema: S;
  readonly profiles: URL;
  readonly start: (config: z.output<S>) => Promise<AsyncDisposable>;
}

/**
 * Runs a program to its end and exits the process: 0 after SIGINT or SIGTERM and an orderly stop,
 * 1 when starting or stopping failed, 2 for a bad profile or flag. A second signal exits at once.
 */
export async function runProgram<S extends z.ZodObject>(program: Program<S>): Promise<never> {
  try {
    const config = loadConfig({ ...program, program: program.name, args: Deno.args });
    configureLog((config as { log: LogConfig }).log);
    await runUntilSignal(program.name, () => program.start(config));
    Deno.exit(0);
  } catch (error) {
    if (error instanceof HelpRequested) {
      // deno-lint-ignore no-console
      console.log(error.message);
      Deno.exit(0);
    }
    if (error instanceof ConfigError) {
      // deno-lint-ignore no-console
      console.error(error.message);
      Deno.exit(2);
    }
    logger(program.name).fatal("{program} failed: {error}", { program: program.name, error });
    Deno.exit(1);
  }
}

/** Starts, waits for SIGINT or SIGTERM, also one that comes while starting, and disposes. */
export async function runUntilSignal(
  name: string,
  start: () => Promise<AsyncDisposable>,
): Promise<void> {
  const log = logger(name);
  const stop = Promise.withResolvers<void>();
  let signals = 0;
  const onSignal = () => {
    if (++signals > 1) Deno.exit(1);
    stop.resolve();
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, onSignal);

  // What is rejected with nobody listening is a defect: written down, but no reason to drop 100 000 clients.
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    log.error("unhandled rejection: {reason}", { reason: event.reason });
  });
  {
    await using _running = await start();
    log.info("{name} is up, version of Deno {deno}", { name, deno: Deno.version.deno });
    await stop.promise;
    log.info("{name} is stopping", { name });
  }
  log.info("{name} has stopped", { name });
}
