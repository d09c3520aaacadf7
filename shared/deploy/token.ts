/**
 * Prints a token1 for trying a cluster of the scheme `jwt`, as a business system would issue it:
 * `deno task token --key token1.key --user 1 --name Ann --groups 10,lobby --minutes 60`.
 * Real tokens come from the business system, which knows who may do what.
 */
import { parseArgs } from "node:util";
import { importPKCS8, SignJWT } from "jose";

/**
 * @param key a private key on P-256 as PEM of PKCS 8, or any other text: a secret
 * @param groups ids, prefixes as `room:*`, or `*`
 * @throws {TypeError} when the PEM holds no such key
 */
export async function testToken(
  key: string,
  { user, name, groups, minutes }: {
    readonly user: string;
    readonly name: string;
    readonly groups: readonly string[];
    readonly minutes: number;
  },
): Promise<string> {
  const isPem = key.startsWith("-----BEGIN ");
  return await new SignJWT({ name, app: "1", groups: groups.map(asId) })
    .setProtectedHeader({ alg: isPem ? "ES256" : "HS256" }).setSubject(user).setIssuedAt()
    .setExpirationTime(`${minutes} minutes`)
    .sign(isPem ? await importPKCS8(key, "ES256") : new TextEncoder().encode(key));
}

function asId(group: string): string | number {
  return /^\d+$/.test(group) ? Number(group) : group;
}

if (import.meta.main) {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      key: { type: "string", default: "token1.key" },
      user: { type: "string", default: "1" },
      name: { type: "string", default: "Ann" },
      groups: { type: "string", default: "*" },
      minutes: { type: "string", default: "60" },
    },
  });
  const token = await testToken(Deno.readTextFileSync(values.key), {
    ...{ user: values.user, name: values.name, minutes: Number(values.minutes) },
    groups: values.groups.split(","),
  });
  // deno-lint-ignore no-console
  console.log(token);
}
