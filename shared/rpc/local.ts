/**
 * The client within one process: it calls the handlers directly, with the same checks, deadlines and errors as over
 * HTTP.
 */
import type { Registry } from "prom-client";
import type { Logger } from "../log.ts";
import { bindClient, type RpcClient } from "./bind.ts";
import type { Contract, Handlers } from "./contract.ts";
import { Dispatcher, serveContract } from "./dispatch.ts";
import { observeCalls } from "./metrics.ts";

export interface LocalOptions {
  /** Default 5000. */
  readonly timeoutMs?: number;
  /** Default 1000. */
  readonly maxConcurrent?: number;
  readonly metrics?: Registry;
  readonly log?: Logger;
}

/** `at(…)` ignores the name. After disposing, calls reject with `unavailable`. */
export function localClient<C extends Contract>(
  contract: C,
  handlers: Handlers<C>,
  options: LocalOptions = {},
): RpcClient<C> {
  const dispatcher = new Dispatcher([serveContract(contract, handlers)], {
    maxConcurrent: options.maxConcurrent ?? 1000,
    log: options.log,
    observe: observeCalls("client", options.metrics),
  });
  const client = bindClient(
    contract,
    options.timeoutMs ?? 5000,
    async (call) => {
      const text = await dispatcher.run(contract.service, call.method, {
        started: call.started,
        timeoutMs: call.deadline - call.started,
        signal: call.signal,
        // Through JSON and back, so that caller and handler share no object, and nothing works here that fails over
        // HTTP.
        readInput: () => JSON.parse(call.body),
      });
      return call.read(text);
    },
  );
  return {
    any: client,
    at: () => client,
    [Symbol.asyncDispose]: async () => dispatcher.drain(),
  };
}
