/** Sends one signed message to a URL that somebody else chose. */
import { lookup, type LookupAddress, type LookupOptions } from "node:dns";
import {
  Agent as HttpAgent,
  type ClientRequest,
  type IncomingMessage,
  request as requestHttp,
  type RequestOptions,
} from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import { addressOf, isPublicAddress, urlProblem } from "./address.ts";
import {
  type Post,
  PostError,
  type PostOptions,
  type PostResult,
  retryAfterMs,
  signedHeaders,
} from "./posting.ts";

export { type Post, PostError, type PostOptions, type PostResult } from "./posting.ts";

/**
 * Sends a POST with a JSON body and its signature, over a connection of its own. Follows no redirect: it is a result
 * like every other status. Unless `allowPrivate`, the connection goes to a public address only: the name is resolved
 * once, the address is checked, and this very address is connected to, so that no later answer of DNS counts.
 * @throws {PostError}
 */
export const postWebhook: Post = (options) => exchange(options, undefined);

export interface PooledPost extends AsyncDisposable {
  readonly post: Post;
}

/** As {@linkcode postWebhook}, over connections that stay open for the next message, `connections` at most. */
export function pooledPost({ connections }: { readonly connections: number }): PooledPost {
  const settings = { keepAlive: true, maxSockets: connections, maxFreeSockets: connections };
  const open = () => ({
    "http:": new HttpAgent(settings),
    "https:": new HttpsAgent(settings),
  });
  // Apart, so that a connection to an address inside is never used for what must not go there.
  const [anywhere, outside] = [open(), open()];
  return {
    post: async (options) => {
      const agents = options.allowPrivate ? anywhere : outside;
      const endsAt = performance.now() + options.timeoutMs;
      try {
        return await exchange(options, agents);
      } catch (error) {
        if (!(error instanceof PostError) || !wasClosed.test(error.message)) throw error;
        // The receiver closed the connection while this was on its way: the id says that it is the same message.
        return await exchange({ ...options, timeoutMs: endsAt - performance.now() }, undefined);
      }
    },
    [Symbol.asyncDispose]: async () => {
      for (const agents of [anywhere, outside]) {
        for (const agent of Object.values(agents)) agent.destroy();
      }
    },
  };
}

interface Agents {
  readonly "http:": HttpAgent;
  readonly "https:": HttpsAgent;
}

const wasClosed = /ECONNRESET|EPIPE|socket hang up|connection closed/i;

function exchange(options: PostOptions, agents: Agents | undefined): Promise<PostResult> {
  const { url: text, timeoutMs, signal, allowPrivate = false, maxAnswerBytes = 65_536 } = options;
  const problem = urlProblem(text, allowPrivate);
  if (problem !== undefined) return Promise.reject(new PostError("address", `url: ${problem}`));
  if (signal?.aborted) return Promise.reject(new PostError("aborted", "given up by the caller"));
  const { promise, resolve, reject } = Promise.withResolvers<PostResult>();
  const url = new URL(text);
  const isSecure = url.protocol === "https:";
  const body = new TextEncoder().encode(options.body);
  const settings: RequestOptions = {
    method: "POST",
    agent: agents?.[isSecure ? "https:" : "http:"] ?? false,
    headers: { ...signedHeaders(options), "content-length": String(body.byteLength) },
  };
  if (addressOf(url) === undefined && !allowPrivate) settings.lookup = lookupPublic;
  let outgoing: ClientRequest;
  try {
    outgoing = (isSecure ? requestHttps : requestHttp)(url, settings);
  } catch (cause) {
    return Promise.reject(asPostError(cause));
  }
  const fail = (error: PostError) => {
    reject(error);
    outgoing.destroy();
  };
  const stop = () => fail(new PostError("aborted", "given up by the caller"));
  signal?.addEventListener("abort", stop);
  const timer = setTimeout(
    () => fail(new PostError("timeout", `no answer within ${timeoutMs} ms`)),
    timeoutMs,
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
  outgoing.end(body);
  return promise.finally(() => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  });
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
function lookupPublic(host: string, options: LookupOptions, found: Found): void {
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
