/** What differs for clients in groups of a kind that the profile names. */
import type { Accepted } from "../broker/broker.ts";
import type { GroupKinds } from "../groups_config.ts";
import type { Hub, Member } from "../hub/hub.ts";
import type { GroupPlaces } from "../presence/group_places.ts";
import { code, EventError } from "../wire.ts";
import type { Echoes } from "./echoes.ts";
import type { Submission, Submit } from "./submit.ts";

export interface GroupRulesOptions<M extends Member> {
  readonly kinds: Pick<GroupKinds, "of">;
  readonly echoes: Echoes<M>;
  readonly places: Pick<GroupPlaces, "take">;
  readonly hub: Pick<Hub<M>, "members">;
  readonly submit: Submit;
}

export class GroupRules<M extends Member> {
  readonly #options: GroupRulesOptions<M>;

  constructor(options: GroupRulesOptions<M>) {
    this.#options = options;
  }

  hasPresence(groupId: string): boolean {
    return this.#options.kinds.of(groupId)?.presence ?? true;
  }

  /** @throws {EventError} when nobody may list the users of the group. */
  requirePresence(event: string, groupId: string): void {
    if (this.hasPresence(groupId)) return;
    throw new EventError(code.logicError, `${event}: group ${groupId} has no presence`);
  }

  /**
   * Places in those of the groups that have a number of them, to be given back when the user is a member. Undefined: none has.
   * Rejects as {@linkcode GroupPlaces.take}, and then takes none.
   */
  places(
    event: string,
    groupIds: readonly string[],
    userId: string,
  ): Promise<Disposable> | undefined {
    const limited = groupIds.flatMap((groupId) => {
      const most = this.#options.kinds.of(groupId)?.members;
      return most === undefined ? [] : [{ groupId, most }];
    });
    return limited.length === 0 ? undefined : this.#take(event, limited, userId);
  }

  /** As {@linkcode Submit}. */
  submit(sender: M, submission: Submission): Promise<Accepted> {
    const { kinds, echoes, hub, submit } = this.#options;
    const options = submission.type === 1 ? kinds.of(submission.targetId) : undefined;
    if (options?.echo !== false) return submit(submission);
    return echoes.submit(sender, submission, { hub, submit });
  }

  async #take(
    event: string,
    limited: readonly { readonly groupId: string; readonly most: number }[],
    userId: string,
  ): Promise<Disposable> {
    using taken = new DisposableStack();
    for (const { groupId, most } of limited) {
      taken.use(await this.#options.places.take(event, groupId, { userId, most }));
    }
    return taken.move();
  }
}
