/**
 * A service as a value: its name and, for each method, the schemas of input and output and whether a call may be
 * repeated. The server, the remote client and the local client read this one value, and all types are inferred from it.
 */
import type { z } from "zod";
import { redact } from "../redact.ts";

export interface Method<I extends z.ZodType = z.ZodType, O extends z.ZodType = z.ZodType> {
  readonly input: I;
  readonly output: O;
  /** True: a call that may have taken effect can be sent again, to another instance, without harm. */
  readonly idempotent: boolean;
  /**
   * True: the answer comes when something happens. Such a call does not count against the limits of calls that are
   * answered at once, and uses a connection of its own.
   */
  readonly waits?: boolean;
  /** True: it is called for every message, with little in and out. Such calls go over a connection that stays open (`lines.ts`). */
  readonly often?: boolean;
}

export type Methods = Readonly<Record<string, Method>>;

export interface Contract<M extends Methods = Methods> {
  /** Also the name under which instances register, and the first segment of the path. */
  readonly service: string;
  readonly methods: M;
}

export function defineContract<const M extends Methods>(service: string, methods: M): Contract<M> {
  return { service, methods };
}

/**
 * What a handler knows about the call. If the handler passes it on to its own calls, the deadline holds for them too.
 */
export interface Call {
  /** On the clock of `performance.now()`, milliseconds. */
  readonly deadline: number;
  /** Aborted at the deadline and, with the local engine, when the caller gives up. */
  readonly signal: AbortSignal;
}

export interface CallOptions {
  /** The time limit of the whole call, including retries, milliseconds. Default: the client's. */
  readonly timeoutMs?: number;
  /** The call that this one is made for: its deadline also limits this one. */
  readonly parent?: Call;
  readonly signal?: AbortSignal;
}

export type Handlers<C extends Contract> = {
  readonly [K in keyof C["methods"]]: (
    input: z.output<C["methods"][K]["input"]>,
    call: Call,
  ) => Promise<z.input<C["methods"][K]["output"]>> | z.input<C["methods"][K]["output"]>;
};

/** Every method rejects with {@linkcode RpcError} only. */
export type Client<C extends Contract> = {
  readonly [K in keyof C["methods"]]: (
    input: z.input<C["methods"][K]["input"]>,
    options?: CallOptions,
  ) => Promise<z.output<C["methods"][K]["output"]>>;
};

/** The error codes on the wire, and the HTTP status of each. */
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
  /** The answer was lost, and the call must not be repeated: it may have taken effect, or may still do so. */
  unknown: 504,
} as const;

export type RpcCode = keyof typeof rpcStatus;

/**
 * The only error that a client throws. The message goes to the caller, so it contains no secrets. On the wire: `{
 * "error": { code, message, retryable } }`.
 */
export class RpcError extends Error {
  override readonly name = "RpcError";
  readonly code: RpcCode;
  /** The call had no effect, and may succeed at another instance or later. */
  readonly retryable: boolean;

  constructor(
    code: RpcCode,
    message: string,
    options: { retryable?: boolean; cause?: unknown } = {},
  ) {
    super(redact(message), options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryable = options.retryable ?? (code === "overloaded" || code === "unavailable");
  }
}
