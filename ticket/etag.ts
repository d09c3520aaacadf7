/** Answers that caches store and revalidate by their ETag. */
import type { Context } from "hono";

export interface Tagged {
  readonly body: string;
  readonly etag: string;
}

/** Computes the ETag from the text itself. */
export async function tagged(body: string): Promise<Tagged> {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(body));
  // Node.js 20 has no `toHex`.
  const hex = Array.from(new Uint8Array(hash, 0, 12), (byte) => byte.toString(16).padStart(2, "0"));
  return { body, etag: `"${hex.join("")}"` };
}

/** Answers 304 to a client that has it. */
export function answerTagged(
  context: Context,
  { body, etag }: Tagged,
  headers: { readonly contentType: string; readonly cacheControl: string },
): Response {
  context.header("cache-control", headers.cacheControl);
  context.header("etag", etag);
  const asked = context.req.header("if-none-match")?.split(",").map((tag) => tag.trim()) ?? [];
  if (asked.includes(etag) || asked.includes(`W/${etag}`)) return context.body(null, 304);
  return context.body(body, 200, { "content-type": headers.contentType });
}
