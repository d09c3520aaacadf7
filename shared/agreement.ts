/**
 * Whether a program has the same secrets as the rest of the cluster. Each program publishes a fingerprint of a secret
 * beside its name in the registry, and compares.
 *
 * A fingerprint has 16 bits, of a hash that takes many rounds. One who can read the registry and guesses secrets offline
 * learns of each guess only that it is wrong, or one of the many that would fit: one guess in 65 536 fits by chance. For
 * the same reason a wrong secret passes unnoticed once in 65 536 times; the calls and tokens still prove the secret
 * itself.
 */
import { pbkdf2Sync } from "node:crypto";
import type { Instance, Registry } from "./registry/registry.ts";
import type { Readiness } from "./readiness.ts";

export interface Claim {
  /** The key of the fingerprints in an instance's `meta`. */
  readonly key: string;
  /** How the secret is used, e.g. the scheme of tokens; programs that differ in it disagree, too. */
  readonly use: string;
  /** The first is used, all are accepted. None: the program has no such secret. */
  readonly secrets: readonly string[];
}

const rounds = 100_000;
const digits = 4;
const known = new Map<string, string>();

function fingerprintOf(key: string, secret: string): string {
  return known.getOrInsertComputed(
    `${key}\n${secret}`,
    () =>
      pbkdf2Sync(secret, `gru fingerprint ${key}`, rounds, 32, "sha256").toString("hex")
        .slice(0, digits),
  );
}

/** For `meta`: the use, and the fingerprints of the secrets in their order. */
export function publishedClaim({ key, use, secrets }: Claim): string {
  return [use, ...secrets.map((secret) => fingerprintOf(key, secret))].join(" ");
}

/** Each accepts what the other one uses. An instance that publishes nothing, as an older version, agrees with all. */
export function agrees(own: string, published: Instance["meta"][string] | undefined): boolean {
  if (typeof published !== "string") return true;
  const [use, first, ...others] = own.split(" ");
  const [itsUse, itsFirst, ...itsOthers] = published.split(" ");
  const has = (wanted: string | undefined, all: readonly (string | undefined)[]) =>
    wanted === undefined || all.includes(wanted);
  return use === itsUse && (first === undefined) === (itsFirst === undefined) &&
    has(itsFirst, [first, ...others]) && has(first, [itsFirst, ...itsOthers]);
}

export interface AgreementOptions {
  readonly registry: Pick<Registry, "watch">;
  /** The name of this program's instance. */
  readonly name: string;
  readonly readiness: Readiness;
  readonly claim: Claim;
  /** The services whose instances publish this claim; with those of this program. */
  readonly services: readonly string[];
  /** The secret and how to mend it, e.g. `the cluster key (GRU_CLUSTER_KEY)`. */
  readonly secret: string;
}

/**
 * A need of the program: that it agrees with the cluster. Only instances that serve count. A program that does not serve
 * yet gives way to the greater part of them; one that serves gives way only when they outnumber it and those that agree
 * with it, so that one wrong newcomer never stops the others.
 */
export async function watchAgreement(options: AgreementOptions): Promise<Disposable> {
  const { registry, name, readiness, claim, services, secret } = options;
  const own = publishedClaim(claim);
  const need = readiness.need(claim.key, "not compared yet");
  const views = new Map<string, readonly Instance[]>();

  function compare(): void {
    const others = [...views.values()].flat().filter((one) =>
      one.name !== name && Object.keys(one.addresses).length > 0 &&
      one.meta[claim.key] !== undefined
    );
    const against = others.filter(({ meta }) => !agrees(own, meta[claim.key]));
    const agreeing = others.length - against.length + (readiness.serving ? 1 : 0);
    if (against.length <= agreeing) return need.met();
    const names = against.slice(0, 5).map((one) => one.name).join(", ");
    need.miss(`${secret} of this program is not that of ${names}`, { atOnce: true });
  }

  using stack = new DisposableStack();
  for (const service of services) {
    stack.use(
      await registry.watch(service, ({ instances }) => {
        views.set(service, instances);
        compare();
      }),
    );
  }
  return stack.move();
}
