/** Limits the bodies of requests before they are read. */
import type { BodyLimit, HttpHandler } from "./options.ts";

export class BodyTooLarge extends Error {
  override readonly name = "BodyTooLarge";
}

/**
 * The text of a body of at most `maxBytes` bytes, whatever length was declared.
 * @throws {BodyTooLarge} before anything is read, if the declared length is too large.
 */
export async function readText(request: Request, maxBytes: number): Promise<string> {
  const declared = request.headers.get("content-length");
  if (declared !== null && Number(declared) <= maxBytes) return await request.text();
  if (declared !== null) throw tooLarge(declared, maxBytes);
  let bytes = 0;
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of request.body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes) throw tooLarge(`more than ${maxBytes}`, maxBytes);
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

/**
 * Runs before the handler: answers 413 to bodies beyond the limit, and 415 to compressed bodies, whose size is unknown.
 */
export function boundBodies(handler: HttpHandler, limit: BodyLimit): HttpHandler {
  if (limit === Infinity) return handler;
  return (request, caller) => {
    if (request.method === "GET" || request.method === "HEAD" || request.body === null) {
      return handler(request, caller);
    }
    const encoding = request.headers.get("content-encoding") ?? "identity";
    if (encoding.toLowerCase() !== "identity") {
      const message = `content-encoding: is ${encoding.slice(0, 40)}; expected none`;
      return refusal(415, "invalid_argument", message);
    }
    const maxBytes = typeof limit === "number" ? limit : limit(request);
    const declared = request.headers.get("content-length");
    if (declared === null) return counted(handler, request, maxBytes, caller);
    if (Number(declared) <= maxBytes) return handler(request, caller);
    return tooLargeAnswer(tooLarge(declared, maxBytes));
  };
}

async function counted(
  handler: HttpHandler,
  request: Request,
  maxBytes: number,
  caller: Parameters<HttpHandler>[1],
): Promise<Response> {
  let bytes = 0;
  let exceeded: BodyTooLarge | undefined;
  const body = request.body?.pipeThrough(
    new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
      transform(chunk, controller) {
        bytes += chunk.byteLength;
        if (bytes <= maxBytes) return controller.enqueue(chunk);
        exceeded = tooLarge(`more than ${maxBytes}`, maxBytes);
        controller.error(exceeded);
      },
    }),
  );
  const { url, method, headers, signal } = request;
  const bounded = new Request(
    url,
    { method, headers, signal, body, duplex: "half" } as RequestInit,
  );
  try {
    const answer = await handler(bounded, caller);
    if (exceeded === undefined) return answer;
    await answer.body?.cancel();
  } catch (error) {
    if (exceeded === undefined) throw error;
  }
  return tooLargeAnswer(exceeded);
}

function tooLarge(bytes: string, maxBytes: number): BodyTooLarge {
  return new BodyTooLarge(`the body: has ${bytes} bytes; expected ${maxBytes} at most`);
}

function tooLargeAnswer({ message }: BodyTooLarge): Response {
  return refusal(413, "too_large", message);
}

export function refusal(status: number, code: string, message: string): Response {
  return Response.json({ error: { code, message } }, { status });
}
