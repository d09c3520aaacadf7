/** Turns a contract into an object with one typed function per method. The engine carries the calls. */
import { type CallOptions, type Client, type Contract, type Method, RpcError } from "./contract.ts";
import { excerpt, maxTimeoutMs, problems } from "./wire.ts";

export interface RpcClient<C extends Contract> extends AsyncDisposable {
  /** Each call goes to a live instance with the fewest calls under way. */
  readonly any: Client<C>;
  /** All calls go to the instance with this name. */
  at(instance: string): Client<C>;
}

export interface OutgoingCall {
  readonly method: string;
  readonly idempotent: boolean;
  /** See {@linkcode Method}. */
  readonly waits: boolean;
  /** See {@linkcode Method}. */
  readonly often: boolean;
  /** JSON. */
  readonly body: string;
  /** Both times are on the clock of `performance.now()`, milliseconds. */
  readonly started: number;
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
  /**
   * Parses the output from its JSON. Throws {@linkcode RpcError} `internal` when the text is not an output of this
   * method.
   */
  readonly read: (text: string) => unknown;
}

/** Executes a call and resolves to its output. Rejects with {@linkcode RpcError} only. */
export type Carry = (call: OutgoingCall) => Promise<unknown>;

export function bindClient<C extends Contract>(
  contract: C,
  timeoutMs: number,
  carry: Carry,
): Client<C> {
  const methods = Object.entries(contract.methods).map(([name, method]) => [
    name,
    (input: unknown, options?: CallOptions) => {
      return callMethod(`${contract.service}.${name}`, name, method, input, options);
    },
  ]);
  return Object.fromEntries(methods) as Client<C>;

  async function callMethod(
    what: string,
    name: string,
    method: Method,
    input: unknown,
    options: CallOptions = {},
  ): Promise<unknown> {
    const started = performance.now();
    const limitMs = Math.min(options.timeoutMs ?? timeoutMs, maxTimeoutMs);
    const { signal, stop } = merge(options.parent?.signal, options.signal);
    try {
      return await carry({
        method: name,
        idempotent: method.idempotent,
        waits: method.waits === true,
        often: method.often === true,
        body: encode(what, input),
        started,
        deadline: Math.min(started + limitMs, options.parent?.deadline ?? Infinity),
        signal,
        read: (text) => decode(what, method, text),
      });
    } finally {
      stop();
    }
  }
}

function encode(what: string, input: unknown): string {
  try {
    // undefined has no JSON form; the server then reports what is missing.
    return JSON.stringify(input) ?? "null";
  } catch (cause) {
    throw new RpcError(
      "invalid_argument",
      `${what}: the input cannot be written as JSON: ${cause}`,
      { cause },
    );
  }
}

function decode(what: string, method: Method, text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new RpcError("internal", `${what}: the answer is not JSON: ${excerpt(text)}`, { cause });
  }
  const output = method.output.safeParse(value);
  if (output.success) return output.data;
  throw new RpcError(
    "internal",
    `${what}: the answer does not fit: ${problems(output.error, value)}`,
  );
}

/** Aborts with either signal. Not `AbortSignal.any`: a long-lived signal would hold it until it is collected. */
function merge(a: AbortSignal | undefined, b: AbortSignal | undefined) {
  if (a === undefined || b === undefined) return { signal: a ?? b, stop: () => {} };
  const either = new AbortController();
  const abort = () => either.abort();
  if (a.aborted || b.aborted) abort();
  a.addEventListener("abort", abort, { once: true });
  b.addEventListener("abort", abort, { once: true });
  return {
    signal: either.signal,
    stop: () => {
      a.removeEventListener("abort", abort);
      b.removeEventListener("abort", abort);
    },
  };
}
