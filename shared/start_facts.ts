/**
 * The first log line of a start: what runs, where and with which parts, so that the log alone answers these questions.
 */
import { bracketed } from "./address.ts";
import manifest from "./deno.json" with { type: "json" };
import { withoutPassword } from "./redact.ts";

/** Profile keys; a program has some of them. */
interface Configured {
  readonly id?: number;
  readonly host?: string;
  readonly port?: number;
  readonly httpPort?: number;
  readonly advertise?: string | undefined;
  readonly rpc?: { readonly advertise?: string | undefined };
  readonly mode?: string;
  readonly registry?: string;
  readonly redis?: string;
  readonly auth?: { readonly scheme?: string };
}

export interface StartFacts {
  /** With placeholders for the properties. */
  readonly text: string;
  readonly properties: Readonly<Record<string, string>>;
}

/** @param ports all ports that the program listens on; default: those of the keys `port` and `httpPort` */
export function startFacts(
  program: string,
  config: Configured,
  ports: readonly number[] = [config.port, config.httpPort].filter((port) => port !== undefined),
): StartFacts {
  const { id, host = "", mode, registry, redis, auth, rpc } = config;
  const advertised = [config.advertise, rpc?.advertise].filter((one) => one !== undefined);
  const isAlone = mode === "single";
  const facts: Readonly<Record<string, string | undefined>> = {
    "listens on": ports.map((port) => `${bracketed(host)}:${port}`).join(" and ") || undefined,
    "advertises": advertised.join(" and ") || undefined,
    mode,
    registry: isAlone ? "memory:" : registry,
    redis: isAlone || redis === undefined ? undefined : withoutPassword(redis),
    scheme: auth?.scheme,
    version: manifest.version,
    Deno: Deno.version.deno,
  };
  const known = Object.entries(facts).filter((fact): fact is [string, string] =>
    fact[1] !== undefined
  );
  const keyOf = (words: string) => words.split(" ")[0] ?? "";
  return {
    text: `{name} starts: ${known.map(([words]) => `${words} {${keyOf(words)}}`).join(", ")}`,
    properties: {
      name: `${program}${id ?? ""}`,
      ...Object.fromEntries(known.map(([words, value]) => [keyOf(words), value])),
    },
  };
}
