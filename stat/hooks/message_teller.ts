/** Reads the logs of active targets and makes events of their messages. */
import type { SpearContract } from "@gru/spear/contract";
import type { Client } from "@gru/shared/rpc/contract";
import type { Telling } from "./telling.ts";

/** Logs that one call reads. */
const together = 20;

export class MessageTeller {
  readonly #telling: Telling;
  readonly #spear: () => Pick<Client<SpearContract>, "readLogs">;

  /** @param spear any one: all read the same logs */
  constructor(telling: Telling, spear: () => Pick<Client<SpearContract>, "readLogs">) {
    this.#telling = telling;
    this.#spear = spear;
  }

  /**
   * Reads what is due.
   * @param token of the lease
   * @returns whether more is due now
   * @throws {RpcError} try again
   */
  async step(token: string): Promise<boolean> {
    const unread = await this.#telling.unread(token, together);
    if (unread.length === 0) return false;
    const { logs } = await this.#spear().readLogs({ positions: [...unread] });
    for (const [i, { epoch, seq, complete, more, messages }] of logs.entries()) {
      const from = unread[i];
      if (from === undefined) break;
      // Of a target that had no log then, all is read from its first message on.
      const isWhole = complete || (from.epoch === "" && (messages[0]?.seq ?? 1) === 1);
      await this.#telling.tellMessages(token, {
        ...{ from, to: { epoch, seq }, more, lost: !isWhole },
        messages: messages.map((message) => ({
          id: message.id,
          ...from.target.kind === "group"
            ? { groupId: from.target.id }
            : { userId: from.target.id },
          ...(`${message.fromId}` === "0" ? {} : { senderId: `${message.fromId}` }),
          ...{ seq: message.seq, epoch: message.epoch, content: message.content },
        })),
      });
    }
    return unread.length === together || logs.some(({ more }) => more);
  }
}
