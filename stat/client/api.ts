/** stat's HTTP API, with the types of its OpenAPI document. */
import createClient, { type Client } from "openapi-fetch";
import type { paths } from "./paths.ts";

export interface ApiOptions {
  /** Where stat's HTTP API is, e.g. `http://127.0.0.1:50000`. */
  readonly url: string;
  /** `GRU_STAT_API_KEY` of the cluster, where it has one. */
  readonly apiKey?: string | undefined;
  /** Default: the `fetch` of the platform. */
  readonly fetch?: (request: Request) => Promise<Response>;
}

/**
 * Each method takes a path of the API, and resolves to `{ data }`, or to `{ error: { error: { code, message } }, response }`
 * when the call was refused. Rejects when stat cannot be reached.
 */
export function api({ url, apiKey, fetch }: ApiOptions): Client<paths> {
  return createClient<paths>({
    baseUrl: url,
    ...(apiKey === undefined ? {} : { headers: { authorization: `Bearer ${apiKey}` } }),
    ...(fetch === undefined ? {} : { fetch }),
  });
}
