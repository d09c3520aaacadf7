/**
 * The list of nodes over HTTP: `GET /nodes` of a ticket that reads the registry, and the cached list of a ticket that
 * does not.
 */
import { Hono } from "hono";
import type { NodeSource } from "./app.ts";
import type { BalancedNode } from "./balance.ts";
import { answerTagged, type Tagged, tagged } from "./etag.ts";

/**
 * A cache may serve the list for one second, for half a minute while it fetches a new one, and for a day while no new
 * one is available. A ticket that may fail is better than none.
 */
const cacheControl = "public, max-age=1, stale-while-revalidate=30, stale-if-error=86400";

export function nodesRoute(nodes: () => readonly BalancedNode[]): Hono {
  let known: Tagged & { readonly of: readonly BalancedNode[] } | undefined;

  async function answer() {
    const now = nodes();
    if (known?.of !== now) {
      known = { of: now, ...await tagged(JSON.stringify({ nodes: now })) };
    }
    return known;
  }

  return new Hono().get(
    "/nodes",
    async (context) =>
      answerTagged(context, await answer(), { contentType: "application/json", cacheControl }),
  );
}

export interface CachedNodesOptions {
  /** `http://host:port/nodes` of an inner ticket, or of a cache in front of several. */
  readonly url: string;
  /** Options for the platform's own cache. */
  readonly request?: RequestInit;
  /** Milliseconds of a clock that never goes back. */
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
 * Fetches the list as its `Cache-Control` allows, with `ETag`. Keeps its own copy, because not every platform caches
 * what its programs fetch, and few serve stale entries.
 */
export function cachedNodes(options: CachedNodesOptions): NodeSource {
  const { url, request, nowMs = () => performance.now(), onError } = options;
  let known: Known | undefined;
  let askedAtMs = -Infinity;
  let failed = false;

  /**
   * Every request fetches for itself, because some platforms forbid a request to wait for work that another request
   * began.
   */
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
      onError?.(new Error(`cannot fetch the list of nodes: ${error}`, { cause: error }));
      throw error;
    }
  }

  return async (waitUntil) => {
    if (known === undefined) return await ask();
    const ageMs = nowMs() - known.atMs;
    if (ageMs <= known.freshMs) return known.nodes;
    const old = known.nodes;
    const mayUseOld = ageMs <= known.freshMs + known.onErrorMs;
    // The fetching request may itself be cancelled; that must not block the other requests for long.
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

/** @throws {TypeError} that says what is wrong. */
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
