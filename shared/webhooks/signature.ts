/**
 * Signatures of webhooks as in Standard Webhooks (symmetric, version 1): https://www.standardwebhooks.com. Runs wherever
 * JavaScript runs: no clock, no platform.
 */
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { concatBytes, utf8ToBytes } from "@noble/hashes/utils.js";

export interface SignedMessage {
  /** Stays the same when a message is sent again, so that the receiver can drop what it has already. No full stop. */
  readonly id: string;
  /** Unix seconds. */
  readonly timestampS: number;
  /** Exactly as it is sent. */
  readonly body: string;
}

export interface VerifyOptions {
  /** Unix seconds. */
  readonly nowS: number;
  /** Seconds by which the timestamp may differ from `nowS`, earlier or later. Default 300. */
  readonly toleranceS?: number;
}

/** The message is not accepted. The message says why, and contains no secret. */
export class WebhookError extends Error {
  override readonly name = "WebhookError";
}

const prefix = "whsec_";
const [leastBytes, mostBytes] = [24, 64];
/** A message with more signatures than this is refused before any is computed. */
const mostSignatures = 20;

/** What is wrong with this text of secrets, for a profile; undefined: nothing. Contains no part of a secret. */
export function secretsProblem(secrets: string): string | undefined {
  for (const [i, secret] of listOf(secrets).entries()) {
    const which = `secret ${i + 1}`;
    if (!secret.startsWith(prefix)) return `${which}: expected ${prefix} and base64`;
    const bytes = fromBase64(secret.slice(prefix.length));
    if (bytes === undefined) return `${which}: expected base64 after ${prefix}`;
    if (bytes.length < leastBytes || bytes.length > mostBytes) {
      return `${which}: expected ${leastBytes} to ${mostBytes} bytes after ${prefix}, got ${bytes.length}`;
    }
  }
  return undefined;
}

/**
 * The headers to send. All secrets sign, so that a receiver that knows one of them accepts the message.
 * @param secrets `whsec_…`, several separated by commas
 * @throws {TypeError} for a bad secret, id or time.
 */
export function signWebhook(secrets: string, message: SignedMessage): Record<string, string> {
  const { id, timestampS } = message;
  if (id === "" || id.includes(".")) throw new TypeError("id: expected text without a full stop");
  if (!Number.isSafeInteger(timestampS)) throw new TypeError("timestampS: expected whole seconds");
  const signed = contentOf(id, String(timestampS), message.body);
  return {
    "webhook-id": id,
    "webhook-timestamp": String(timestampS),
    "webhook-signature": keysOf(secrets)
      .map((key) => `v1,${toBase64(hmac(sha256, key, signed))}`).join(" "),
  };
}

/**
 * Checks who sent the message and when. A receiver that must not act twice remembers the `webhook-id` for twice
 * `toleranceS`: within that time a copy of the message has a good signature, too.
 * @param secrets `whsec_…`, several separated by commas: each is accepted
 * @param headers of the request; names in lower case if they are a record
 * @param body the text of the request, before it is parsed
 * @throws {WebhookError} when a header is missing or malformed, the time is too far away, or no signature fits.
 * @throws {TypeError} for a bad secret.
 */
export function verifyWebhook(
  secrets: string,
  headers: Headers | Readonly<Record<string, string | undefined>>,
  body: string,
  { nowS, toleranceS = 300 }: VerifyOptions,
): { readonly id: string; readonly timestampS: number } {
  const keys = keysOf(secrets);
  const read = (name: string) => {
    const value = headers instanceof Headers ? headers.get(name) : headers[name];
    if (value === null || value === undefined || value === "") {
      throw new WebhookError(`${name}: missing`);
    }
    return value;
  };
  const [id, time, signatures] = [
    read("webhook-id"),
    read("webhook-timestamp"),
    read("webhook-signature").split(" "),
  ];
  if (id.includes(".")) throw new WebhookError("webhook-id: expected text without a full stop");
  if (!/^\d{1,12}$/.test(time)) throw new WebhookError("webhook-timestamp: expected Unix seconds");
  const timestampS = Number(time);
  if (nowS - timestampS > toleranceS) throw new WebhookError("webhook-timestamp: too old");
  if (timestampS - nowS > toleranceS) throw new WebhookError("webhook-timestamp: in the future");
  if (signatures.length > mostSignatures) {
    throw new WebhookError(`webhook-signature: more than ${mostSignatures} signatures`);
  }
  const signed = contentOf(id, time, body);
  const expected = keys.map((key) => hmac(sha256, key, signed));
  const fits = signatures.some((signature) => {
    // Signatures of other versions are for other receivers.
    const given = signature.startsWith("v1,") ? fromBase64(signature.slice(3)) : undefined;
    return given !== undefined && expected.some((one) => equal(one, given));
  });
  if (!fits) throw new WebhookError("webhook-signature: none fits");
  return { id, timestampS };
}

function contentOf(id: string, time: string, body: string): Uint8Array {
  return concatBytes(utf8ToBytes(`${id}.${time}.`), utf8ToBytes(body));
}

function keysOf(secrets: string): Uint8Array[] {
  const problem = secretsProblem(secrets);
  if (problem !== undefined) throw new TypeError(problem);
  return listOf(secrets).map((secret) => fromBase64(secret.slice(prefix.length)) as Uint8Array);
}

function listOf(secrets: string): string[] {
  return secrets.split(",").map((secret) => secret.trim());
}

function toBase64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

function fromBase64(text: string): Uint8Array | undefined {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}

/** In constant time. */
function equal(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (const [i, byte] of a.entries()) difference |= byte ^ (b[i] ?? 0);
  return difference === 0;
}
