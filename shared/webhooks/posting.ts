/** What a sender of webhooks does, whatever platform it runs on: `post.ts` on Deno and Node, `post_fetch.ts` elsewhere. */
import { signWebhook } from "./signature.ts";

export interface PostOptions {
  readonly url: string;
  /** `whsec_…`, several separated by commas: all sign. */
  readonly secrets: string;
  /** The `webhook-id`. */
  readonly id: string;
  readonly body: string;
  /** Default `application/json`. */
  readonly contentType?: string;
  /** From the call to the end of the answer. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** True: the address may be in a private network or this machine's own. Default false. */
  readonly allowPrivate?: boolean | undefined;
  /** A longer answer is a failure. Default 65 536. */
  readonly maxAnswerBytes?: number;
  /** Unix seconds, for the signature. Default: the machine's clock. */
  readonly nowS?: number;
}

export interface PostResult {
  /** A status of 300 to 399 is an answer, too: redirects are not followed. */
  readonly status: number;
  readonly body: string;
  /** What the header `Retry-After` asks for, in milliseconds from now. */
  readonly retryAfterMs: number | undefined;
}

/** @throws {PostError} */
export type Post = (options: PostOptions) => Promise<PostResult>;

/**
 * - `address`: the URL is bad, or leads to an address that is not allowed: nothing was sent
 * - `network`: no connection, or it broke: the receiver may have got the message
 * - `timeout`: no whole answer in time: as `network`
 * - `answer`: too long
 * - `aborted`: by the caller's signal
 */
export type PostFailure = "address" | "network" | "timeout" | "answer" | "aborted";

export class PostError extends Error {
  override readonly name = "PostError";
  readonly kind: PostFailure;

  constructor(kind: PostFailure, message: string, options?: ErrorOptions) {
    super(message, options);
    this.kind = kind;
  }
}

/** Reads `Retry-After`: seconds or a date. Undefined for anything else. */
export function retryAfterMs(header: string | undefined, nowMs = Date.now()): number | undefined {
  if (header === undefined) return undefined;
  if (/^\d{1,9}$/.test(header)) return Number(header) * 1000;
  const at = Date.parse(header);
  return Number.isNaN(at) ? undefined : Math.max(0, at - nowMs);
}

/** The headers of a message, with its signature. @throws {TypeError} for a bad secret. */
export function signedHeaders(options: PostOptions): Record<string, string> {
  const { secrets, id, body, contentType = "application/json" } = options;
  const timestampS = options.nowS ?? Math.floor(Date.now() / 1000);
  return {
    "content-type": contentType,
    "accept-encoding": "identity",
    "user-agent": "gru",
    ...signWebhook(secrets, { id, timestampS, body }),
  };
}
