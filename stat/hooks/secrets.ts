/** The secrets that sign what is sent to the endpoints: that of all, or one of their own from a variable that the profile names. */
import { ConfigError } from "@gru/shared/config";
import { hideSecret } from "@gru/shared/redact";
import { secretText } from "@gru/shared/secret_text";
import { secretsProblem } from "@gru/shared/webhooks/signature";
import type { HooksConfig } from "./config.ts";

/** By the endpoints' names. @throws {ConfigError} that names each variable that is missing or wrong */
export function endpointSecrets(
  { secret, endpoints }: Pick<HooksConfig, "secret" | "endpoints">,
  environment: (name: string) => string | undefined = Deno.env.get,
): Map<string, string> {
  const secrets = new Map<string, string>();
  const problems: string[] = [];
  for (const { name, secretVariable } of endpoints) {
    if (secretVariable === undefined) {
      if (secret !== undefined) secrets.set(name, secret);
      continue;
    }
    const value = environment(secretVariable) ?? "";
    hideSecret(value.trim());
    const read = secretText(value);
    const text = read.problem === undefined ? read.text : "";
    const problem = read.problem ?? (text === "" ? "is not set" : secretsProblem(text));
    if (problem === undefined) secrets.set(name, text);
    else {
      problems.push(
        `stat: hooks.endpoints, ${name}: the environment variable ${secretVariable}: ${problem}`,
      );
    }
  }
  if (problems.length > 0) throw new ConfigError(problems.join("\n"));
  return secrets;
}
