/**
 * Prints a token1 for trying a cluster of the scheme `jwt`:
 * `deno task token --key token1.key --user 1 --name Ann --groups 10,lobby --minutes 60`.
 */
import { parseArgs } from "node:util";
import { idsIn, token1 } from "@gru/server";

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
const token = await token1({
  ...{ key: Deno.readTextFileSync(values.key), user: values.user, name: values.name, app: "1" },
  ...{ groups: idsIn(values.groups), minutes: Number(values.minutes) },
});
// deno-lint-ignore no-console
console.log(token);
