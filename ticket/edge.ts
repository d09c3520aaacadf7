/** ticket where there is no registry: its nodes come from an inner ticket, its settings from bindings or the environment. */
import type { Hono } from "hono";
import { ticketApp, type TicketBindings } from "./app.ts";
import { checkTicketAuth } from "./auth_rules.ts";
import { cachedNodes } from "./nodes.ts";
import { office } from "./token.ts";

/** The names of the settings; a Deno program needs the permission to read these. */
export const edgeSettings = [
  "GRU_NODES_URL",
  "GRU_AUTH_SCHEME",
  "GRU_TOKEN1_SECRET",
  "GRU_TOKEN1_PUBLIC_KEY",
  "GRU_TOKEN1_JWKS",
  "GRU_TOKEN1_ISSUER",
  "GRU_TOKEN1_AUDIENCE",
  "GRU_TOKEN2_SECRET",
  "GRU_ORIGINS",
  "GRU_TRUSTED_HOPS",
] as const;

export type EdgeSettings = { readonly [S in typeof edgeSettings[number]]?: string | undefined };

const skewMs = 5000;
const token2Ms = 30_000;
const rightsMs = 3_600_000;
/** For each instance of the program, of which a platform runs many: against the worst only. */
const limits = { perUser: 1, perAddress: 100 };

/**
 * @param nodesRequest what the platform's cache wants to be told when the nodes are asked for
 * @throws {TypeError} naming the setting that is missing or not good.
 */
export function edgeApp(
  settings: EdgeSettings,
  nodesRequest: RequestInit = {},
): Hono<{ Bindings: TicketBindings }> {
  const { GRU_NODES_URL: url, GRU_AUTH_SCHEME: scheme = "jwt", GRU_ORIGINS: origins } = settings;
  if (url === undefined) throw new TypeError("GRU_NODES_URL: missing; http(s)://…/nodes");
  if (scheme !== "jwt" && scheme !== "open") {
    throw new TypeError(`GRU_AUTH_SCHEME: expected jwt or open, got ${scheme}`);
  }
  const trustedHops = Number(settings.GRU_TRUSTED_HOPS ?? 0);
  if (!Number.isInteger(trustedHops) || trustedHops < 0) {
    throw new TypeError(`GRU_TRUSTED_HOPS: expected 0 or more, got ${settings.GRU_TRUSTED_HOPS}`);
  }
  const auth = {
    scheme,
    gruAllowed: false,
    token1: {
      secret: settings.GRU_TOKEN1_SECRET,
      publicKey: settings.GRU_TOKEN1_PUBLIC_KEY,
      jwks: settings.GRU_TOKEN1_JWKS,
      issuer: settings.GRU_TOKEN1_ISSUER,
      audience: settings.GRU_TOKEN1_AUDIENCE,
      skewMs,
    },
    token2Secret: settings.GRU_TOKEN2_SECRET,
    token2Ms,
    rightsMs,
    profile: "edge",
  } as const;
  checkTicketAuth(auth, (path, message) => {
    const name = path.join("_").replace(/[A-Z]/, "_$&").toUpperCase();
    throw new TypeError(`GRU_${name}: ${message}`);
  });
  const report = (error: Error) => {
    // deno-lint-ignore no-console
    console.error(error.message);
  };
  return ticketApp({
    nodes: cachedNodes({ url, request: nodesRequest, onError: report }),
    office: office(auth),
    ...(origins === undefined ? {} : { origins: origins.split(",") }),
    limits,
    trustedHops,
    onError: report,
  });
}
