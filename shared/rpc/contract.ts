/**
 * A service as a value: its name and, for each method, the shapes of input and output and whether
 * a call may be repeated. The server, the remote client and the local client all read this one value,
 * and every type is inferred from it.
 */
import type { z } from "zod";

export interface Method<I extends z.ZodType = z.ZodType, O extends z.ZodType = z.ZodType> {
  readonly input: I;
  readonly output: O;
  /** A call that may have taken effect can be sent again, to another instance, without harm. */
  readonly idempotent: boolean;
}

export type Methods = Readonly<Record<string, Method>>;

export interface Contract<M extends Methods = Methods> {
  /** Also the name under which instances register, and the first part of the path. */
  readonly service: string;
  readonly methods: M;
}

export function defineContract<const M extends Methods>(service: string, methods: M): Contract<M> {
  return { service, methods };
}

/** What a handler knows of the call it serves; given on to the calls it makes, it carries the deadline over hops. */
export interface Call {
  /** On the clock of `performance.now()`, milliseconds. */
  readonly deadline: number;
  /** Aborted when the deadline passes or, with the local engine, when the caller gives up. */
  readonly signal: AbortSignal;
}

export interface CallOptions {
  /** Milliseconds for the whole call, retries included. Default: the client's. */
  readonly timeoutMs?: number;
  /** The call on whose behalf this one is made: its deadline bounds this one's. */
  readonly parent?: Call;
  readonly signal?: AbortSignal;
}

export type Handlers<C extends Contract> = {
  readonly [K in keyof C["methods"]]: (
    input: z.output<C["methods"][K]["input"]>,
    call: Call,
  ) => Promise<z.input<C["methods"][K]["output"]>> | z.input<C["methods"][K]["output"]>;
};

/** Rejects with {@linkcode RpcError} and nothing else. */
export type Client<C extends Contract> = {
  readonly [K in keyof C["methods"]]: (
    input: z.input<C["methods"][K]["input"]>,
    options?: CallOptions,
  ) => Promise<z.output<C["methods"][K]["output"]>>;
};

/** The codes of the wire and the HTTP status each travels with. */
export const rpcStatus = {
  invalid_argument: 400,
  unauthenticated: 401,
  not_found: 404,
  conflict: 409,
  overloaded: 429,
  cancelled: 499,
  internal: 500,
  unavailable: 503,
  deadline_exceeded: 504,
} as const;

export type RpcCode = keyof typeof rpcStatus;

/** The only error a client throws. On the wire: `{ "error": { code, message, retryable } }`. */
export class RpcError extends Error {
  override readonly name = "RpcError";
  readonly code: RpcCode;
  /** The call had no effect and may succeed elsewhere or later. */
  readonly retryable: boolean;

  constructor(
    code: RpcCode,
    message: string,
    options: { retryable?: boolean; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryable = options.retryable ?? (code === "overloaded" || code === "unavailable");
  }
}
