/** ticket without a registry: its nodes come from an inner ticket, its settings from bindings or the environment. */
import type { Hono } from "hono";
import { secretText } from "@gru/shared/secret_text";
import { postByFetch } from "@gru/shared/webhooks/post_fetch";
import { ticketApp, type TicketBindings } from "./app.ts";
import { checkTicketAuth } from "./auth_rules.ts";
import { cachedNodes } from "./nodes.ts";
import { issuer } from "./token.ts";
import { admissionAsker, admissionBy } from "./token_hook.ts";

/** The names of the settings. A Deno program needs the permission to read these environment variables. */
export const edgeSettings = [
  "GRU_NODES_URL",
  "GRU_AUTH_SCHEME",
  "GRU_TOKEN1_SECRET",
  "GRU_TOKEN1_PUBLIC_KEY",
  "GRU_TOKEN1_JWKS",
  "GRU_TOKEN1_ISSUER",
  "GRU_TOKEN1_AUDIENCE",
  "GRU_TOKEN2_SECRET",
  "GRU_ADMISSION_URL",
  "GRU_ADMISSION_SECRET",
  "GRU_ADMISSION_ALLOW_PRIVATE",
  "GRU_ORIGINS",
  "GRU_TRUSTED_HOPS",
] as const;

export type EdgeSettings = { readonly [S in typeof edgeSettings[number]]?: string | undefined };

const skewMs = 5000;
const token2Ms = 30_000;
const rightsMs = 3_600_000;
/** For each instance. A platform runs many instances, so these limits only stop the worst abuse. */
const limits = { perUser: 1, perAddress: 100 };

/**
 * @param nodesRequest options of the request for the nodes, for the platform's cache
 * @throws {TypeError} naming the setting that is missing or invalid.
 */
export function edgeApp(
  settings: EdgeSettings,
  nodesRequest: RequestInit = {},
): Hono<{ Bindings: TicketBindings }> {
  const { GRU_NODES_URL: url, GRU_AUTH_SCHEME: scheme = "jwt", GRU_ORIGINS: origins } = settings;
  if (url === undefined) throw new TypeError("GRU_NODES_URL: missing; http(s)://…/nodes");
  if (scheme !== "jwt" && scheme !== "hook" && scheme !== "open") {
    throw new TypeError(`GRU_AUTH_SCHEME: expected jwt, hook or open, got ${scheme}`);
  }
  const trustedHops = Number(settings.GRU_TRUSTED_HOPS ?? 0);
  if (!Number.isInteger(trustedHops) || trustedHops < 0) {
    throw new TypeError(`GRU_TRUSTED_HOPS: expected 0 or more, got ${settings.GRU_TRUSTED_HOPS}`);
  }
  const auth = {
    scheme,
    gruAllowed: false,
    token1: {
      secret: secretSetting(settings, "GRU_TOKEN1_SECRET"),
      publicKey: secretSetting(settings, "GRU_TOKEN1_PUBLIC_KEY", { lines: true }),
      jwks: settings.GRU_TOKEN1_JWKS,
      issuer: settings.GRU_TOKEN1_ISSUER,
      audience: settings.GRU_TOKEN1_AUDIENCE,
      skewMs,
    },
    admission: {
      url: settings.GRU_ADMISSION_URL,
      secret: secretSetting(settings, "GRU_ADMISSION_SECRET"),
      allowPrivate: settings.GRU_ADMISSION_ALLOW_PRIVATE === "true",
    },
    token2Secret: secretSetting(settings, "GRU_TOKEN2_SECRET"),
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
  const ask = scheme === "hook"
    ? admissionBy(admissionAsker(auth.admission, {
      post: postByFetch,
      onTrouble: (error) => {
        if (error !== undefined) report(new Error(`admission: ${error.message}`));
      },
    }))
    : undefined;
  return ticketApp({
    nodes: cachedNodes({ url, request: nodesRequest, onError: report }),
    issuer: issuer(auth, Date.now, ask),
    ...(origins === undefined ? {} : { origins: origins.split(",") }),
    limits,
    trustedHops,
    onError: report,
  });
}

function secretSetting(settings: EdgeSettings, name: keyof EdgeSettings, options = {}) {
  const read = secretText(settings[name] ?? "", options);
  if (read.problem !== undefined) throw new TypeError(`${name}: ${read.problem}`);
  return read.text === "" ? undefined : read.text;
}
