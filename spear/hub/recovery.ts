/** What a client has missed of several targets, sent page by page as it reads. */
import { pageBytes } from "../broker/broker.ts";
import type { Join } from "./joining.ts";

export interface RecoveringClient {
  /** Sends what `join.missed` has. */
  readonly sendPage: (join: Join) => void;
  /** Resolves when what was sent has left, or the client has. */
  readonly drained: () => Promise<void>;
  readonly hasEnded: () => boolean;
  /** Pages are smaller where less may wait for a client. */
  readonly waitingBytes: number;
}

/** Targets that are read at the same time; they share the bytes of one page. */
const atOnce = 8;

/**
 * Reads and sends until every join is caught up, or has left, or the client has ended. When this has resolved, see
 * whether they still are: too much may have come for one while another was read.
 * @throws {NotAcceptedError} history is out of reach.
 */
export async function recover(joins: readonly Join[], client: RecoveringClient): Promise<void> {
  const bytes = Math.min(pageBytes, Math.floor(client.waitingBytes / 2));
  let sent = 0;
  const send = async (join: Join) => {
    client.sendPage(join);
    sent += join.bytesRead;
    if (sent < bytes) return;
    sent = 0;
    await client.drained();
  };
  const behind = joins.filter(isBehind);
  for (let at = 0; at < behind.length; at += atOnce) {
    const some = behind.slice(at, at + atOnce);
    const pages = await Promise.allSettled(
      some.map((join) => join.next(Math.floor(bytes / some.length))),
    );
    for (const join of some) {
      await send(join);
      if (client.hasEnded()) return;
    }
    for (const page of pages) if (page.status === "rejected") throw page.reason;
    for (const join of some) {
      while (isBehind(join)) {
        await join.next(bytes);
        await send(join);
        if (client.hasEnded()) return;
      }
    }
  }
}

export function isBehind({ caughtUp, left }: Join): boolean {
  return !caughtUp && !left;
}
