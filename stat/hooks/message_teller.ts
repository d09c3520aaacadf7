/** Reads the logs of active targets and makes events of their messages. */
import type { SpearContract } from "@gru/spear/contract";
import type { Client } from "@gru/shared/rpc/contract";
import type { Logger } from "@gru/shared/log";
import type { Telling } from "./telling.ts";

/** Logs that one call reads. */
const together = 50;

/** A spear that does not answer must not keep other events waiting. */
const timeoutMs = 1000;

export interface MessageTellerOptions {
  readonly telling: Telling;
  /** Any one: all read the same logs. */
  readonly spear: () => Pick<Client<SpearContract>, "readLogs">;
  readonly log: Logger;
}

export class MessageTeller {
  readonly #options: MessageTellerOptions;

  constructor(options: MessageTellerOptions) {
    this.#options = options;
  }

  /**
   * Reads what is due. What no spear can read now is read later.
   * @param token of the lease
   * @returns whether more is due now
   * @throws {RpcError} `unavailable`: the store cannot be reached
   */
  async step(token: string): Promise<boolean> {
    const { telling, spear, log } = this.#options;
    const unread = await telling.unread(token, together);
    if (unread.length === 0) return false;
    const read = await spear().readLogs({ positions: [...unread] }, { timeoutMs })
      .catch((error) => void log.debug("the logs of messages cannot be read: {error}", { error }));
    if (read === undefined) return false;
    const { logs } = read;
    await Promise.all(logs.map(async ({ epoch, seq, complete, more, messages }, i) => {
      const from = unread[i];
      if (from === undefined) return;
      // Of a target that had no log then, all is read from its first message on.
      const isWhole = complete || (from.epoch === "" && (messages[0]?.seq ?? 1) === 1);
      await telling.tellMessages(token, {
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
    }));
    return unread.length === together || logs.some(({ more }) => more);
  }
}
