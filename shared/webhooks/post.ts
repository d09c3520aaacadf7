/** Sends one signed message to a URL that somebody else chose. */
import type { LookupAddress, LookupAllOptions } from "node:dns";
import { lookup } from "node:dns";
import { type IncomingMessage, request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { addressOf, isPublicAddress, urlProblem } from "./address.ts";
import {
  type Post,
  PostError,
  type PostOptions,
  type PostResult,
  retryAfterMs,
} from "./posting.ts";
import { signWebhook } from "./signature.ts";

export { PostError, type PostOptions, type PostResult } from "./posting.ts";

/**
 * Sends a POST with a JSON body and its signature, over a connection of its own. Follows no redirect: it is a result
 * like every other status. Unless `allowPrivate`, the connection goes to a public address only: the name is resolved
 * once, the address is checked, and this very address is connected to, so that no later answer of DNS counts.
 * @throws {PostError}
 */
export const postWebhook: Post = (options) => {
  const { promise, resolve, reject } = Promise.withResolvers<PostResult>();
  const { url: text, timeoutMs, signal, allowPrivate = false, maxAnswerBytes = 65_536 } = options;
  const problem = urlProblem(text, allowPrivate);
  if (problem !== undefined) return Promise.reject(new PostError("address", `url: ${problem}`));
  const url = new URL(text);
  const send = url.protocol === "https:" ? requestHttps : requestHttp;
  const end = new AbortController();
  const fail = (error: PostError) => {
    reject(error);
    end.abort(error);
  };
  const timer = setTimeout(
    () => fail(new PostError("timeout", `no answer within ${timeoutMs} ms`)),
    timeoutMs,
  );
  const stop = () => fail(new PostError("aborted", "given up by the caller"));
  if (signal?.aborted) stop();
  signal?.addEventListener("abort", stop);
  const body = new TextEncoder().encode(options.body);
  const outgoing = send(
    url,
    {
      method: "POST",
      // A pooled connection may have been closed by the other side: the message would fail for no reason.
      agent: false,
      headers: {
        ...headersOf(options),
        "content-length": String(body.byteLength),
      },
      ...(addressOf(url) === undefined ? { lookup: allowPrivate ? lookup : lookupPublic } : {}),
    } as Parameters<typeof requestHttp>[1] & object,
  );
  outgoing.on("error", (cause) => fail(asPostError(cause)));
  outgoing.on("response", (incoming) => {
    incoming.on("error", (cause) => fail(asPostError(cause)));
    readAll(incoming, maxAnswerBytes, fail, (answer) =>
      resolve({
        status: incoming.statusCode ?? 0,
        body: answer,
        retryAfterMs: retryAfterMs(incoming.headers["retry-after"]),
      }));
  });
  end.signal.addEventListener("abort", () => outgoing.destroy());
  if (end.signal.aborted) outgoing.destroy();
  else outgoing.end(body);
  return promise.finally(() => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
    outgoing.destroy();
  });
};

function headersOf({ secrets, id, body, nowS, contentType }: PostOptions): Record<string, string> {
  return {
    "content-type": contentType ?? "application/json",
    "accept-encoding": "identity",
    "user-agent": "gru",
    ...signWebhook(secrets, { id, timestampS: nowS ?? Math.floor(Date.now() / 1000), body }),
  };
}

function readAll(
  incoming: IncomingMessage,
  maxBytes: number,
  fail: (error: PostError) => void,
  done: (text: string) => void,
): void {
  const decoder = new TextDecoder();
  let bytes = 0;
  let text = "";
  incoming.on("data", (chunk: Uint8Array) => {
    bytes += chunk.byteLength;
    if (bytes > maxBytes) {
      return fail(new PostError("answer", `the answer has more than ${maxBytes} bytes`));
    }
    text += decoder.decode(chunk, { stream: true });
  });
  incoming.on("end", () => done(text + decoder.decode()));
  incoming.on("aborted", () => fail(new PostError("network", "the answer was cut off")));
}

function asPostError(cause: unknown): PostError {
  if (cause instanceof PostError) return cause;
  const why = cause instanceof Error ? cause.message : String(cause);
  return new PostError("network", why, { cause });
}

type Found = (error: Error | null, address: string | LookupAddress[], family?: number) => void;

/** As `dns.lookup`, which it calls; fails when one of the addresses is not public. */
function lookupPublic(host: string, options: LookupAllOptions, found: Found): void {
  lookup(host, { ...options, all: true }, (error, addresses) => {
    if (error !== null) return found(error, []);
    const inside = addresses.find(({ address }) => !isPublicAddress(address));
    if (inside !== undefined) {
      return found(
        new PostError(
          "address",
          `url: ${host} is ${inside.address}, which is not a public address; set allowPrivate to allow it`,
        ),
        [],
      );
    }
    if (options.all) return found(null, addresses);
    const [first] = addresses;
    if (first === undefined) return found(new PostError("network", `${host}: no address`), []);
    found(null, first.address, first.family);
  });
}
