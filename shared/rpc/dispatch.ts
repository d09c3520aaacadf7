/** From a method's name and raw input to its checked output: what the HTTP server and the local engine share. */
import type { Logger } from "../log.ts";
import type { Call, Contract, Handlers, Method } from "./contract.ts";
import { RpcError } from "./contract.ts";
import type { Observe } from "./metrics.ts";
import { problems, toRpcError } from "./wire.ts";

/** A contract with the functions that fulfil it. */
export interface Service {
  readonly contract: Contract;
  readonly handlers: Readonly<Record<string, (input: never, call: Call) => unknown>>;
}

/** Pairs a contract with handlers; the compiler checks that they fit. */
export function serveContract<C extends Contract>(contract: C, handlers: Handlers<C>): Service {
  return { contract, handlers };
}

export interface DispatchOptions {
  /** Calls worked on at once; one more is refused as `overloaded`. */
  readonly maxConcurrent: number;
  readonly log?: Logger | undefined;
  readonly observe: Observe;
}

export interface Work {
  /** On the clock of `performance.now()`. */
  readonly started: number;
  readonly timeoutMs: number;
  /** Called once the call is admitted. May throw an {@linkcode RpcError}. */
  readonly readInput: () => unknown;
  readonly signal?: AbortSignal | undefined;
}

interface Bound {
  readonly method: Method;
  readonly handler: (input: never, call: Call) => unknown;
}

export class Dispatcher {
  readonly #services = new Map<string, Map<string, Bound>>();
  readonly #options: DispatchOptions;
  #underWay = 0;
  #draining = false;

  constructor(services: readonly Service[], options: DispatchOptions) {
    this.#options = options;
    for (const { contract, handlers } of services) {
      const methods = new Map<string, Bound>();
      for (const [name, method] of Object.entries(contract.methods)) {
        const handler = handlers[name];
        if (handler === undefined) throw new Error(`${contract.service}.${name} has no handler`);
        methods.set(name, { method, handler });
      }
      if (this.#services.has(contract.service)) {
        throw new Error(`Service ${contract.service} is given twice`);
      }
      this.#services.set(contract.service, methods);
    }
  }

  get draining(): boolean {
    return this.#draining;
  }

  /** From now on every call is refused as `unavailable`; those under way go on. */
  drain(): void {
    this.#draining = true;
  }

  /** The names of a service's methods; undefined when there is no such service. */
  methodsOf(service: string): string[] | undefined {
    const methods = this.#services.get(service);
    return methods && [...methods.keys()];
  }

  /** The JSON of the output, as the handler gave it and fitting the contract. Rejects with {@linkcode RpcError} only. */
  async run(service: string, name: string, work: Work): Promise<string> {
    const bound = this.#services.get(service)?.get(name);
    if (bound === undefined) throw this.#unknown(service, name);
    try {
      const text = await this.#admit(service, name, bound, work);
      this.#options.observe(service, name, "ok", performance.now() - work.started);
      return text;
    } catch (cause) {
      if (!(cause instanceof RpcError) || cause.code === "internal") {
        this.#options.log?.error("{service}.{name} failed: {error}", {
          service,
          name,
          error: cause instanceof RpcError ? cause.cause ?? cause : cause,
        });
      }
      // What went wrong inside is for the log, not for the caller.
      const error = toRpcError(cause, `${service}.${name} failed`);
      this.#options.observe(service, name, error.code, performance.now() - work.started);
      throw error;
    }
  }

  #unknown(service: string, name: string): RpcError {
    const methods = this.methodsOf(service);
    return new RpcError(
      "not_found",
      methods === undefined
        ? `No service ${service} here; there is ${[...this.#services.keys()].join(", ")}`
        : `${service} has no method ${name}; it has ${methods.join(", ")}`,
    );
  }

  #admit(service: string, name: string, bound: Bound, work: Work): Promise<string> {
    if (this.#draining) {
      throw new RpcError("unavailable", `${service} is stopping`);
    }
    if (this.#underWay >= this.#options.maxConcurrent) {
      throw new RpcError(
        "overloaded",
        `${service} has ${this.#underWay} calls under way, its limit`,
      );
    }
    const call = new ServedCall(work);
    const result = this.#handle(service, name, bound, work, call);
    // A handler that goes on past its deadline still takes its place: the limit is on real work.
    this.#underWay++;
    result.finally(() => this.#underWay--).catch(() => {});
    return call.bound(`${service}.${name}`, result);
  }

  async #handle(
    service: string,
    name: string,
    { method, handler }: Bound,
    work: Work,
    call: ServedCall,
  ) {
    const raw = await work.readInput();
    const input = method.input.safeParse(raw);
    if (!input.success) {
      throw new RpcError(
        "invalid_argument",
        `${service}.${name}: ${problems(input.error, raw)}`,
      );
    }
    if (call.ended || performance.now() >= call.deadline) {
      throw late(`${service}.${name}`, work.timeoutMs);
    }
    const value = await handler(input.data as never, call);
    const output = method.output.safeParse(value);
    if (!output.success) {
      throw new Error(`its own output is invalid: ${problems(output.error, value)}`);
    }
    return JSON.stringify(value) ?? "null";
  }
}

function late(what: string, timeoutMs: number): RpcError {
  return new RpcError("deadline_exceeded", `${what} took longer than ${Math.ceil(timeoutMs)} ms`);
}

/** Makes its signal only for handlers that ask for it. */
class ServedCall implements Call {
  readonly deadline: number;
  readonly #work: Work;
  #controller: AbortController | undefined;
  #ended: unknown;

  constructor(work: Work) {
    this.deadline = work.started + work.timeoutMs;
    this.#work = work;
  }

  /** Answered already, by the deadline or because the caller gave up. */
  get ended(): boolean {
    return this.#ended !== undefined;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#ended !== undefined) this.#controller.abort(this.#ended);
    }
    return this.#controller.signal;
  }

  /** The result, or an error as soon as the deadline passes or the caller gives up. */
  bound(what: string, result: Promise<string>): Promise<string> {
    const { signal, timeoutMs } = this.#work;
    return new Promise((resolve, reject) => {
      const remaining = Math.max(0, this.deadline - performance.now());
      const timer = setTimeout(() => end(late(what, timeoutMs)), remaining);
      const onAbort = () => end(new RpcError("cancelled", `${what}: the caller gave up`));
      const settle = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
      };
      const end = (reason: RpcError) => {
        settle();
        this.#ended = reason;
        this.#controller?.abort(reason);
        reject(reason);
      };
      if (signal?.aborted) onAbort();
      else signal?.addEventListener("abort", onAbort, { once: true });
      result.then(resolve, reject).finally(settle);
    });
  }
}
