/** The list of nodes over HTTP: `GET /nodes` of a ticket that sees the registry, and the cached list of one that does not. */
import { Hono } from "hono";
import type { NodeSource } from "./app.ts";
import type { BalancedNode } from "./balance.ts";

/**
 * How long a cache may give the list away: for a second, for half a minute while it asks for a new one, and for a
 * day while there is none to be had. Better a ticket that may fail than none.
 */
const cacheControl = "public, max-age=1, stale-while-revalidate=30, stale-if-error=86400";

export function nodesRoute(nodes: () => readonly BalancedNode[]): Hono {
  let known: { of: readonly BalancedNode[]; body: string; etag: string } | undefined;

  async function answer() {
    const now = nodes();
    if (known?.of !== now) {
      const body = JSON.stringify({ nodes: now });
      known = { of: now, body, etag: await etagOf(body) };
    }
    return known;
  }

  return new Hono().get("/nodes", async (context) => {
    const { body, etag } = await answer();
    context.header("cache-control", cacheControl);
    context.header("etag", etag);
    const asked = context.req.header("if-none-match")?.split(",").map((tag) => tag.trim()) ?? [];
    if (asked.includes(etag) || asked.includes(`W/${etag}`)) return context.body(null, 304);
    return context.body(body, 200, { "content-type": "application/json" });
  });
}

async function etagOf(text: string): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return `"${new Uint8Array(hash).slice(0, 12).toHex()}"`;
}

export interface CachedNodesOptions {
  /** `http://host:port/nodes` of an inner ticket, or of a cache in front of several. */
  readonly url: string;
  /** For the platform's own cache. */
  readonly request?: RequestInit;
  /** On a clock that never goes back. */
  readonly nowMs?: () => number;
  readonly onError?: (error: Error) => void;
}

interface Known {
  readonly nodes: readonly BalancedNode[];
  readonly etag: string | undefined;
  readonly atMs: number;
  readonly freshMs: number;
  readonly whileAskingMs: number;
  readonly onErrorMs: number;
}

const timeoutMs = 3000;
const retryMs = 1000;
const maxBytes = 10_000_000;

/**
 * Asks for the list as its `Cache-Control` says, with `ETag`. Keeps a copy of its own, since not every platform caches what
 * its programs fetch, and few give away what is stale.
 */
export function cachedNodes(options: CachedNodesOptions): NodeSource {
  const { url, request, nowMs = () => performance.now(), onError } = options;
  let known: Known | undefined;
  let askedAtMs = -Infinity;
  let failed = false;

  /** Every request for itself: a platform may forbid one to wait for what another began. */
  async function ask(): Promise<readonly BalancedNode[]> {
    askedAtMs = nowMs();
    try {
      const headers: HeadersInit = known?.etag === undefined ? {} : { "if-none-match": known.etag };
      const signal = AbortSignal.timeout(timeoutMs);
      const response = await fetch(url, { ...request, headers, signal });
      const text = await response.text();
      if (response.status === 304 && known !== undefined) {
        known = { ...known, ...agesOf(response), atMs: nowMs() };
      } else if (response.ok && text.length <= maxBytes) {
        const etag = response.headers.get("etag") ?? undefined;
        known = { nodes: readNodes(text), etag, atMs: nowMs(), ...agesOf(response) };
      } else {
        throw new Error(`GET ${url} answered ${response.status} with ${text.length} characters`);
      }
      failed = false;
      return known.nodes;
    } catch (error) {
      failed = true;
      onError?.(new Error(`the list of nodes cannot be had: ${error}`, { cause: error }));
      throw error;
    }
  }

  return async (waitUntil) => {
    if (known === undefined) return await ask();
    const ageMs = nowMs() - known.atMs;
    if (ageMs <= known.freshMs) return known.nodes;
    const old = known.nodes;
    const mayUseOld = ageMs <= known.freshMs + known.onErrorMs;
    // Also a request that was broken off with its asking must not stop the others for long.
    const quietMs = failed ? retryMs : timeoutMs;
    const asking = nowMs() < askedAtMs + quietMs && (failed || askedAtMs > known.atMs);
    if (asking && mayUseOld) return old;
    if (ageMs <= known.freshMs + known.whileAskingMs) {
      waitUntil(ask().catch(() => {}));
      return old;
    }
    try {
      return await ask();
    } catch (error) {
      if (mayUseOld) return old;
      throw error;
    }
  };
}

function agesOf(response: Response) {
  const control = response.headers.get("cache-control") ?? "";
  const ms = (name: string) =>
    1000 * Number(new RegExp(`(?:^|[ ,])${name}=(\\d{1,9})`).exec(control)?.[1] ?? 0);
  return {
    freshMs: ms("max-age"),
    whileAskingMs: ms("stale-while-revalidate"),
    onErrorMs: ms("stale-if-error"),
  };
}

/** @throws {TypeError} naming what is wrong. */
function readNodes(text: string): BalancedNode[] {
  const { nodes } = JSON.parse(text);
  if (!Array.isArray(nodes)) throw new TypeError("nodes: expected a list");
  return nodes.map((node: Record<string, unknown> | null, i) => {
    const { name, addr } = node ?? {};
    if (typeof name !== "string" || typeof addr !== "string") {
      throw new TypeError(`nodes[${i}]: expected name and addr`);
    }
    const numbers = ["weight", "load", "capacity"].flatMap((key) => {
      const value = node?.[key];
      return typeof value === "number" && value >= 0 ? [[key, value]] : [];
    });
    return { name, addr, ...Object.fromEntries(numbers) };
  });
}
