/** Serves contracts over HTTP: `POST /<service>/<method>`, JSON in and out. */
import { timingSafeEqual } from "node:crypto";
import type { Registry } from "prom-client";
import type { Logger } from "../log.ts";
import { RpcError, rpcStatus } from "./contract.ts";
import { Dispatcher, type Service } from "./dispatch.ts";
import { observeCalls } from "./metrics.ts";
import { errorText, excerpt, maxTimeoutMs, timeoutHeader, toRpcError } from "./wire.ts";

export { serveContract, type Service } from "./dispatch.ts";

export interface RpcServerOptions {
  /** Callers must send it as `Authorization: Bearer`. Default: everyone may call. */
  readonly clusterKey?: string | undefined;
  /** Default 1000. */
  readonly maxConcurrent?: number;
  /** Default 16 MiB. */
  readonly maxBodyBytes?: number;
  /** For callers that name no time limit. Default 10 000. */
  readonly defaultTimeoutMs?: number;
  readonly metrics?: Registry;
  readonly log?: Logger;
}

export interface RpcHandler {
  /** Never rejects. `GET /<service>` tells the methods, or 503 while draining: by it clients probe. */
  (request: Request): Promise<Response>;
  /** From now on calls are refused as `unavailable`, without effect; those under way finish. */
  drain(): void;
}

const answerInit = { headers: { "content-type": "application/json" } };

export function rpcHandler(
  services: readonly Service[],
  options: RpcServerOptions = {},
): RpcHandler {
  const { maxBodyBytes = 16 * 1024 * 1024, defaultTimeoutMs = 10_000, log } = options;
  const authorized = keyCheck(options.clusterKey);
  const dispatcher = new Dispatcher(services, {
    maxConcurrent: options.maxConcurrent ?? 1000,
    log,
    observe: observeCalls("server", options.metrics),
  });

  async function answer(request: Request): Promise<string> {
    const started = performance.now();
    const { headers, method, url } = request;
    if (!authorized(headers.get("authorization"))) {
      throw new RpcError("unauthenticated", "The cluster key is missing or wrong");
    }
    const path = url.slice(url.indexOf("/", url.indexOf("//") + 2) + 1);
    if (method === "GET") return probe(path);
    if (method !== "POST") {
      throw new RpcError("invalid_argument", `${method} /${excerpt(path)}: only POST is served`);
    }
    const slash = path.indexOf("/");
    const [service, name] = slash < 0 ? [path, ""] : [path.slice(0, slash), path.slice(slash + 1)];
    return await dispatcher.run(excerpt(service), excerpt(name), {
      started,
      timeoutMs: timeoutOf(headers.get(timeoutHeader), defaultTimeoutMs),
      readInput: () => readJson(request, maxBodyBytes),
    });
  }

  function probe(service: string): string {
    if (dispatcher.draining) throw new RpcError("unavailable", `${service} is stopping`);
    const methods = dispatcher.methodsOf(service);
    if (methods === undefined) {
      throw new RpcError("not_found", `No service ${excerpt(service)} here`);
    }
    return JSON.stringify({ service, methods });
  }

  async function handle(request: Request): Promise<Response> {
    try {
      return new Response(await answer(request), answerInit);
    } catch (cause) {
      const error = toRpcError(cause, "The call failed");
      if (error !== cause) log?.error("RPC call failed: {error}", { error: cause });
      return new Response(errorText(error), { ...answerInit, status: rpcStatus[error.code] });
    }
  }

  return Object.assign(handle, { drain: () => dispatcher.drain() });
}

function keyCheck(key: string | undefined): (header: string | null) => boolean {
  if (key === undefined) return () => true;
  const encoder = new TextEncoder();
  const expected = encoder.encode(`Bearer ${key}`);
  return (header) => {
    const given = encoder.encode(header ?? "");
    return given.length === expected.length && timingSafeEqual(given, expected);
  };
}

function timeoutOf(header: string | null, defaultMs: number): number {
  if (header === null) return defaultMs;
  const ms = Number(header);
  if (!/^\d{1,9}$/.test(header) || ms < 1) {
    throw new RpcError(
      "invalid_argument",
      `${timeoutHeader}: expected whole milliseconds from 1, is ${excerpt(header)}`,
    );
  }
  return Math.min(ms, maxTimeoutMs);
}

async function readJson(request: Request, maxBytes: number): Promise<unknown> {
  const type = request.headers.get("content-type") ?? "";
  if (!/^application\/json\s*(;|$)/i.test(type)) {
    throw new RpcError(
      "invalid_argument",
      `content-type: expected application/json, is ${excerpt(type) || "missing"}`,
    );
  }
  const text = await readText(request, maxBytes);
  try {
    return JSON.parse(text);
  } catch {
    throw new RpcError("invalid_argument", `The body is not JSON: ${excerpt(text) || "empty"}`);
  }
}

async function readText(request: Request, maxBytes: number): Promise<string> {
  const declared = request.headers.get("content-length");
  if (declared !== null && Number(declared) <= maxBytes) return await request.text();
  const tooLarge = new RpcError(
    "invalid_argument",
    `The body has ${declared ?? `more than ${maxBytes}`} bytes; the limit is ${maxBytes}`,
  );
  if (declared !== null) throw tooLarge;
  let bytes = 0;
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of request.body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes) throw tooLarge;
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}
