/** Tells of spears that came and went. */
import { stoppedInOrder } from "@gru/shared/registry/orderly_stop";
import type { Instance, Registry } from "@gru/shared/registry/registry";
import { spearService } from "@gru/spear/contract";
import type { Telling } from "./telling.ts";

/**
 * @param live the spears, as the registry shows them; undefined while that is out of date
 * @throws {RpcError} `unavailable`
 */
export async function tellOfNodes(
  token: string,
  telling: Telling,
  registry: Registry,
  live: readonly Instance[] | undefined,
): Promise<void> {
  if (live === undefined) return;
  const started = new Map(live.map(({ name, startedAt }) => [name, startedAt]));
  const gone = await telling.tellNodes(token, started, new Map());
  if (gone.length === 0) return;
  // How a spear ended is told when the registry can say it.
  const ends = await Promise.all(gone.map(async (node) => {
    const inOrder = await stoppedInOrder(registry, { service: spearService, ...node });
    return [node.name, inOrder ? "left" : "died"] as const;
  })).catch(() => undefined);
  if (ends !== undefined) await telling.tellNodes(token, started, new Map(ends));
}
