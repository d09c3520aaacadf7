/** Messages whose sender is not sent them: of groups without echo, from when they have an id until they come by here. */
import type { Accepted } from "../broker/broker.ts";
import type { Hub, Member } from "../hub/hub.ts";
import type { Frame } from "../packets.ts";
import type { Submission, Submit } from "./submit.ts";
import { targetOf } from "./submit.ts";

interface Awaited<M> {
  readonly sender: M;
  /** On the clock of `performance.now()`. */
  readonly at: number;
}

/** What has not come by until then does so by a way on which nobody is left out, as from history. */
const awaitedMs = 60_000;
/** How the packet of a message begins, up to its id. */
const beforeId = /^\d+\["msg",\{"id":"/;

export class Echoes<M extends Member> {
  /** By the message's id, the oldest first. */
  readonly #awaited = new Map<string, Awaited<M>>();

  /** Submits it, counted in the order of the calls, for a sender that is not to be sent it. */
  async submit(
    sender: M,
    submission: Submission,
    { hub, submit }: { readonly hub: Pick<Hub<M>, "members">; readonly submit: Submit },
  ): Promise<Accepted> {
    // Nothing would come, and nothing would be waited for.
    if (!hub.members(targetOf(submission)).has(sender)) return await submit(submission);
    let id = "";
    const onId = (itsId: string) => {
      const now = performance.now();
      this.#forgetBefore(now - awaitedMs);
      this.#awaited.set(id = itsId, { sender, at: now });
    };
    try {
      const accepted = await submit({ ...submission, onId });
      if (accepted.id !== id || accepted.dropped) this.#awaited.delete(id);
      return accepted;
    } catch (error) {
      this.#awaited.delete(id);
      throw error;
    }
  }

  /** Once for each message, when it is given to the members. */
  senderOf({ text }: Frame): M | undefined {
    if (this.#awaited.size === 0) return undefined;
    const start = beforeId.exec(text)?.[0].length;
    if (start === undefined) return undefined;
    const id = text.slice(start, text.indexOf('"', start));
    const sender = this.#awaited.get(id)?.sender;
    this.#awaited.delete(id);
    return sender;
  }

  #forgetBefore(time: number): void {
    for (const [id, { at }] of this.#awaited) {
      if (at >= time) return;
      this.#awaited.delete(id);
    }
  }
}
