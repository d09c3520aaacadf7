/** Runs a method: from its name and raw input to its checked output. Shared by the HTTP server and the local engine. */
import type { Logger } from "../log.ts";
import type { Call, Contract, Handlers, Method } from "./contract.ts";
import { RpcError } from "./contract.ts";
import type { Observe } from "./metrics.ts";
import { problems, toRpcError } from "./wire.ts";

/** A contract with its handlers. */
export interface Service {
  readonly contract: Contract;
  readonly handlers: Readonly<Record<string, (input: never, call: Call) => unknown>>;
}

/** Pairs a contract with handlers; the compiler checks that they match. */
export function serveContract<C extends Contract>(contract: C, handlers: Handlers<C>): Service {
  return { contract, handlers };
}

export interface DispatchOptions {
  /** The most calls that run at once; one more is rejected as `overloaded`. */
  readonly maxConcurrent: number;
  readonly log?: Logger | undefined;
  readonly observe: Observe;
}

export interface Work {
  /** On the clock of `performance.now()`. */
  readonly started: number;
  readonly timeoutMs: number;
  /** Called after the call was admitted. May throw an {@linkcode RpcError}. */
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
        throw new Error(`Service ${contract.service} is listed twice`);
      }
      this.#services.set(contract.service, methods);
    }
  }

  get draining(): boolean {
    return this.#draining;
  }

  /** From now on every call is rejected as `unavailable`; calls under way continue. */
  drain(): void {
    this.#draining = true;
  }

  /** The names of a service's methods; undefined when there is no such service. */
  methodsOf(service: string): string[] | undefined {
    const methods = this.#services.get(service);
    return methods && [...methods.keys()];
  }

  /** Resolves to the JSON of the output, checked against the contract. Rejects with {@linkcode RpcError} only. */
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
      // The cause is logged and not shown to the caller.
      const error = toRpcError(cause, `${service}.${name} failed`);
      this.#options.observe(service, name, error.code, performance.now() - work.started);
      throw error;
    }
  }

  #unknown(service: string, name: string): RpcError {
    const methods = this.methodsOf(service);
    if (methods !== undefined) {
      const known = methods.join(", ");
      return new RpcError("not_found", `${service} has no method ${name}; it has ${known}`);
    }
    // Another program now uses this address; the service may be found at another address.
    const known = [...this.#services.keys()].join(", ");
    const message = `This program has no service ${service}; it has ${known}`;
    return new RpcError("not_found", message, { retryable: true });
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
    // A handler that continues after its deadline still counts: the limit is on real work.
    this.#underWay++;
    result.finally(() => this.#underWay--).catch(() => {});
    return call.bound(`${service}.${name}`, result, bound.method.idempotent);
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
    call.handled = true;
    const value = await handler(input.data as never, call);
    const output = method.output.safeParse(value);
    if (!output.success) {
      throw new Error(`the handler's output is invalid: ${problems(output.error, value)}`);
    }
    return JSON.stringify(value) ?? "null";
  }
}

function late(
  what: string,
  timeoutMs: number,
  code: "deadline_exceeded" | "unknown" = "deadline_exceeded",
): RpcError {
  return new RpcError(code, `${what} took longer than ${Math.ceil(timeoutMs)} ms`);
}

/** Creates its signal only for handlers that read it. */
class ServedCall implements Call {
  readonly deadline: number;
  /** The handler has started, so the call may take effect. */
  handled = false;
  readonly #work: Work;
  #controller: AbortController | undefined;
  #ended: unknown;

  constructor(work: Work) {
    this.deadline = work.started + work.timeoutMs;
    this.#work = work;
  }

  /** Answered already: at the deadline, or because the caller gave up. */
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

  /** The handler's result, or an error as soon as the deadline passes or the caller gives up. */
  bound(what: string, result: Promise<string>, idempotent: boolean): Promise<string> {
    const { signal, timeoutMs } = this.#work;
    return new Promise((resolve, reject) => {
      const remaining = Math.max(0, this.deadline - performance.now());
      const timer = setTimeout(() => {
        const code = this.handled && !idempotent ? "unknown" : "deadline_exceeded";
        end(late(what, timeoutMs, code));
      }, remaining);
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
