/**
 * Sends signed messages where there is nothing but `fetch`: at an edge. An address in the URL is checked; what a name
 * resolves to cannot be seen here, so the network of the platform must not lead to anything inside.
 */
import { urlProblem } from "./address.ts";
import { type Post, PostError, retryAfterMs, signedHeaders } from "./posting.ts";

export const postByFetch: Post = async (options) => {
  const { url, timeoutMs, signal, allowPrivate = false, maxAnswerBytes = 65_536 } = options;
  const problem = urlProblem(url, allowPrivate);
  if (problem !== undefined) throw new PostError("address", `url: ${problem}`);
  const timeout = AbortSignal.timeout(timeoutMs);
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: signedHeaders(options),
      body: options.body,
      redirect: "manual",
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
    });
    return {
      status: response.status,
      body: await textOf(response, maxAnswerBytes),
      retryAfterMs: retryAfterMs(response.headers.get("retry-after") ?? undefined),
    };
  } catch (cause) {
    if (cause instanceof PostError) throw cause;
    if (signal?.aborted) throw new PostError("aborted", "given up by the caller", { cause });
    if (timeout.aborted) {
      throw new PostError("timeout", `no answer within ${timeoutMs} ms`, { cause });
    }
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new PostError("network", why, { cause });
  }
};

async function textOf(response: Response, maxBytes: number): Promise<string> {
  const decoder = new TextDecoder();
  let bytes = 0;
  let text = "";
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    // Leaving the loop cancels the body.
    if (bytes > maxBytes) {
      throw new PostError("answer", `the answer has more than ${maxBytes} bytes`);
    }
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}
