/** Serves contracts over HTTP: `POST /<service>/<method>`, JSON in and out. */
import { BodyTooLarge, readText } from "../http/body.ts";
import type { Upgrade } from "../http/serve.ts";
import type { Registry } from "prom-client";
import type { Logger } from "../log.ts";
import { RpcError, rpcStatus } from "./contract.ts";
import { Dispatcher, type Service } from "./dispatch.ts";
import { serveLines } from "./line_server.ts";
import { lineProtocol } from "./lines.ts";
import { observeCalls } from "./metrics.ts";
import { bodyHash, proofHeader, type Verification, Verifier } from "./proof.ts";
import { errorText, excerpt, maxTimeoutMs, timeoutHeader, toRpcError } from "./wire.ts";

export { serveContract, type Service } from "./dispatch.ts";

export interface RpcServerOptions {
  /** Callers must prove it (`proof.ts`), or send it as `Authorization: Bearer`. Default: everybody may call. */
  readonly clusterKey?: string | undefined;
  /**
   * The registered address of this server, `http://host:port`: a proof made for another address is rejected. Default,
   * for servers without a registry: the request's own.
   */
  readonly address?: (() => string) | undefined;
  /** Default 1000. */
  readonly maxConcurrent?: number;
  /** Default 16 MiB. */
  readonly maxBodyBytes?: number;
  /** For callers that set no time limit. Default 10 000. */
  readonly defaultTimeoutMs?: number;
  readonly metrics?: Registry;
  readonly log?: Logger;
}

export interface RpcHandler {
  /** Never rejects. `GET /<service>` lists the methods, or answers 503 while draining: clients use it as a probe. */
  (request: Request): Promise<Response>;
  /** From now on calls are rejected as `unavailable`, without effect; calls under way are finished. */
  drain(): void;
  /** Pass it to `serveHttp`: calls that come often then come over a connection that stays open. */
  readonly upgrade: Upgrade;
}

const answerHeaders = { "content-type": "application/json" };
const answerInit = { headers: answerHeaders };
const open: Verification = {};

export function rpcHandler(
  services: readonly Service[],
  options: RpcServerOptions = {},
): RpcHandler {
  const { maxBodyBytes = 16 * 1024 * 1024, defaultTimeoutMs = 10_000, log } = options;
  const { clusterKey: key, address: callee } = options;
  const verifier = key === undefined
    ? undefined
    : new Verifier({ key, callee, use: "rpc", keyName: "The cluster key" });
  const dispatcher = new Dispatcher(services, {
    maxConcurrent: options.maxConcurrent ?? 1000,
    log,
    observe: observeCalls("server", options.metrics),
  });

  async function answer(
    request: Request,
    path: string,
    verification: Verification,
  ): Promise<string> {
    const started = performance.now();
    const { headers, method } = request;
    requireProof(verification);
    if (method === "GET") return probe(path);
    if (method !== "POST") {
      throw new RpcError("invalid_argument", `${method} /${excerpt(path)}: only POST is served`);
    }
    const slash = path.indexOf("/");
    const [service, name] = slash < 0 ? [path, ""] : [path.slice(0, slash), path.slice(slash + 1)];
    return await dispatcher.run(excerpt(service), excerpt(name), {
      started,
      timeoutMs: timeoutOf(headers.get(timeoutHeader), defaultTimeoutMs),
      readInput: () => readJson(request, maxBodyBytes, verification.bodyHash),
    });
  }

  function probe(service: string): string {
    if (dispatcher.draining) throw new RpcError("unavailable", `${service} is stopping`);
    const methods = dispatcher.methodsOf(service);
    if (methods === undefined) {
      throw new RpcError("not_found", `This program has no service ${excerpt(service)}`, {
        retryable: true,
      });
    }
    return JSON.stringify({ service, methods });
  }

  async function handle(request: Request): Promise<Response> {
    const { url, headers } = request;
    const slash = url.indexOf("/", url.indexOf("//") + 2);
    const verification = verifier?.verify(request, headers.get(timeoutHeader) ?? "") ?? open;
    try {
      const text = await answer(request, url.slice(slash + 1), verification);
      return sealed(200, text, verification);
    } catch (cause) {
      return refuse(cause, verification);
    }
  }

  function refuse(cause: unknown, verification: Verification): Response {
    const error = toRpcError(cause, "The call failed");
    if (error !== cause) log?.error("RPC call failed: {error}", { error: cause });
    return sealed(rpcStatus[error.code], errorText(error), verification);
  }

  function sealed(status: number, text: string, verification: Verification): Response {
    if (verification.proveAnswer === undefined) {
      return new Response(text, status === 200 ? answerInit : { ...answerInit, status });
    }
    const headers = { ...answerHeaders, [proofHeader]: verification.proveAnswer(status, text) };
    return new Response(text, { status, headers });
  }

  function takeLines(request: Request): ReturnType<Upgrade["take"]> {
    const { url } = request;
    const service = url.slice(url.indexOf("/", url.indexOf("//") + 2) + 1);
    const verification = verifier?.verify(request, "") ?? open;
    try {
      requireProof(verification);
      probe(service);
      const { proveAnswer, seal } = verification;
      if (verifier !== undefined && seal === undefined) {
        throw new RpcError("unauthenticated", "Calls over one connection need a proof of the key");
      }
      return {
        headers: proveAnswer === undefined ? {} : { [proofHeader]: proveAnswer(101) },
        use: (connection) => serveLines(connection, service, dispatcher, seal),
      };
    } catch (cause) {
      return refuse(cause, verification);
    }
  }

  return Object.assign(handle, {
    drain: () => dispatcher.drain(),
    upgrade: { protocol: lineProtocol, take: takeLines },
  });
}

function requireProof({ refusal, message = "" }: Verification): void {
  if (refusal === undefined) return;
  // A call with a used proof may have been served: to the caller it is the same as a lost connection.
  const code = refusal === "used" ? "unavailable" : "unauthenticated";
  throw new RpcError(code, message, { retryable: false });
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

/** `hash`: the hash of the body that the caller proved. */
async function readJson(
  request: Request,
  maxBytes: number,
  hash: string | undefined,
): Promise<unknown> {
  const type = request.headers.get("content-type") ?? "";
  if (!/^application\/json\s*(;|$)/i.test(type)) {
    throw new RpcError(
      "invalid_argument",
      `content-type: expected application/json, is ${excerpt(type) || "missing"}`,
    );
  }
  const text = await readText(request, maxBytes).catch((error) => {
    throw error instanceof BodyTooLarge
      ? new RpcError("invalid_argument", error.message, { cause: error })
      : error;
  });
  if (hash !== undefined && hash !== bodyHash(text)) {
    throw new RpcError("unauthenticated", "The body is not the body that the proof was made for");
  }
  try {
    return JSON.parse(text);
  } catch {
    throw new RpcError("invalid_argument", `The body is not JSON: ${excerpt(text) || "empty"}`);
  }
}
