/** The way of one message, put together from what the spears remember and what history has. */
import { RpcError } from "@gru/shared/rpc/contract";
import type { Place, TargetOfCommand } from "@gru/spear/contract";
import type { Operations } from "./operations.ts";

/** As many of the newest stored messages are looked through for an id. */
const searched = 1000;

/**
 * @param target where to look for a message that no node remembers to have accepted
 * @throws {RpcError} `not_found`
 */
export async function trailOf(
  operations: Operations,
  id: string,
  target: TargetOfCommand | undefined,
) {
  const nodes = operations.served;
  const first = await operations.ask(nodes, (spear, options) => spear.trail({ id }, options));
  const origin = first.answers.find(({ answer }) => answer.accepted !== undefined);
  const accepted = origin?.answer.accepted;
  const stored = await storedMessage(operations, id, accepted ?? target);
  const place: Place | undefined = accepted ?? stored;
  if (place === undefined) {
    const where = target === undefined
      ? "; name its group or user, and the stored messages are searched, too"
      : ` and is not among the newest ${searched} stored messages of the target`;
    throw new RpcError("not_found", `id: no node remembers the message ${id}${where}`);
  }
  const position = { target: place.target, epoch: place.epoch, seq: place.seq };
  const { answers, failed } = await operations.ask(
    nodes,
    (spear, options) => spear.trail({ id, position }, options),
  );
  return {
    id,
    ...position,
    createTime: stored?.createTime ?? null,
    accepted: origin === undefined || accepted === undefined
      ? null
      : { node: origin.node, at: accepted.at, fromId: accepted.fromId },
    nodes: answers.map(({ node, answer: { received, missed } }) => ({
      node,
      receivedAt: received?.at ?? null,
      connections: received?.connections ?? 0,
      missed,
    })),
    failed,
  };
}

/** @param where its place, or at least its target */
async function storedMessage(
  operations: Operations,
  id: string,
  where: Place | TargetOfCommand | undefined,
): Promise<Place & { createTime: number } | undefined> {
  if (where === undefined) return undefined;
  const isPlace = "target" in where;
  const target = isPlace ? where.target : where;
  const range = isPlace ? { limit: 1, before: where.seq + 1 } : { limit: searched };
  // Without history there is still what the nodes remember.
  const history = await operations.spears.any.history({ target, ...range }).catch(() => undefined);
  const found = history?.messages.find((message) => message.id === id);
  if (found === undefined) return undefined;
  return { target, epoch: found.epoch, seq: found.seq, createTime: found.createTime };
}
