/**
 * Changes which Redis share the targets, while spears run: `deno task spear:shards FROM TO`. Exits with 0; with 1 when it is not
 * done, which it says; with 2 when the arguments are wrong.
 */
import { parseArgs } from "node:util";
import { configureLog, logger } from "@gru/shared/log";
import { expectedShards, parseRedisAddress } from "@gru/shared/redis/address";
import { moveShards } from "@gru/shared/redis/move_shards";

const usage = `deno task spear:shards FROM TO [--lost HOST:PORT]…

FROM   some of the present Redis, ${expectedShards}
TO     all that are to share the targets from now on
--lost a present one that is gone for ever, with what it had

GRU_REDIS_PASSWORD is their password, if they have one. No messages are sent until it is done, a few seconds; they wait. If it is
interrupted, do the same again. Then change the key redis of the spears' profiles; they need no restart.
`;

class UsageError extends Error {}

function read(args: readonly string[]) {
  try {
    const options = { lost: { type: "string", multiple: true, default: [] as string[] } } as const;
    const { values, positionals } = parseArgs({
      args: [...args],
      options,
      allowPositionals: true,
    });
    const [from, to, ...more] = positionals.map((address) => {
      const parsed = parseRedisAddress(address);
      if (parsed.kind === "shards") return parsed;
      throw new UsageError(`expected ${expectedShards}, got ${address}`);
    });
    if (from === undefined || to === undefined || more.length > 0) {
      throw new UsageError(`expected FROM and TO, got ${positionals.length} addresses`);
    }
    return { from, to, lost: values.lost };
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

async function main(args: readonly string[]): Promise<number> {
  try {
    const { from, to, lost } = read(args);
    configureLog({ level: "info", format: "text" });
    const { keys, list } = await moveShards({
      ...{ seeds: from.nodes, next: to.nodes, lost, log: logger("shards") },
      username: to.username ?? from.username,
      password: Deno.env.get("GRU_REDIS_PASSWORD"),
    });
    // deno-lint-ignore no-console -- the result
    console.log(`the shards are ${list}; ${keys} keys have moved`);
    return 0;
  } catch (error) {
    // deno-lint-ignore no-console -- for people
    console.error(error instanceof UsageError ? `${error.message}\n\n${usage}` : `${error}`);
    return error instanceof UsageError ? 2 : 1;
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
