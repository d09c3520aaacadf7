/** The client for one process: straight to the handlers, with the same checks, deadlines and errors as over HTTP. */
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

/** `at(…)` is the same whatever the name. Calls after disposing reject with `unavailable`. */
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
    (call) =>
      dispatcher.run(contract.service, call.method, {
        started: call.started,
        timeoutMs: call.deadline - call.started,
        signal: call.signal,
        // Over JSON and back, so that nothing is shared and nothing passes here that would not pass over HTTP.
        readInput: () => JSON.parse(call.body),
      }),
  );
  return {
    any: client,
    at: () => client,
    [Symbol.asyncDispose]: async () => dispatcher.drain(),
  };
}
