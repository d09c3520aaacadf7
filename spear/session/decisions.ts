/** What the business system decides about the events of clients: for the groups that the profile names, and no others. */
import { Asker, type AskerOptions, AskError } from "@gru/shared/webhooks/ask";
import {
  type AccessAnswer,
  accessAnswer,
  type BeforeSendAnswer,
  beforeSendAnswer,
  type DecisionName,
} from "@gru/shared/webhooks/decisions";
import type { DecisionWatch } from "@gru/shared/webhooks/metrics";
import { allows } from "@gru/ticket/token";
import type { DecisionsConfig } from "../decisions_config.ts";
import type { Accepted } from "../broker/broker.ts";
import { code, EventError, type Target } from "../wire.ts";
import type { Submission } from "./submit.ts";

interface Rule<A extends { readonly action: string }> {
  readonly toUsers: boolean;
  fits(groupId: string): boolean;
  readonly asker: Asker<A>;
}

export interface DecisionsOptions extends Pick<AskerOptions<never>, "post" | "signal"> {
  readonly watch: Pick<DecisionWatch, "options" | "add">;
  /** What a message is answered with that nobody but its sender gets: an id, and where its target is now. */
  readonly placeOfHidden: (target: Target) => Promise<Accepted>;
  /** The longest content that a client could send, and hence the longest that may replace it. */
  readonly payloadBytes: number;
}

/** In the worst case JSON writes six characters for one. */
const jsonFactor = 6;

export class Decisions {
  readonly #subscribe: readonly Rule<AccessAnswer>[];
  readonly #online: readonly Rule<AccessAnswer>[];
  readonly #beforeSend: readonly Rule<BeforeSendAnswer>[];

  readonly placeOfHidden: DecisionsOptions["placeOfHidden"];

  constructor(config: DecisionsConfig, options: DecisionsOptions) {
    const { watch, post, signal, payloadBytes } = options;
    this.placeOfHidden = options.placeOfHidden;
    const { secret: secrets = "" } = config;
    const rulesOf = <A extends { readonly action: string }>(
      decision: DecisionName & keyof DecisionsConfig,
      answer: AskerOptions<A>["answer"],
      maxAnswerBytes: number,
    ): Rule<A>[] =>
      config[decision].map(({ match, ...rule }) => {
        const asker = new Asker<A>({
          ...rule,
          ...watch.options(decision, rule.url),
          ...{ secrets, answer, post, signal, maxAnswerBytes },
        });
        watch.add(decision, asker);
        const patterns = [match];
        const toUsers = "toUsers" in rule && rule.toUsers;
        return { asker, toUsers, fits: (groupId) => allows(patterns, groupId) };
      });
    const replaced = beforeSendAnswer.refine(
      (answer) => answer.action !== "replace" || answer.content.length <= payloadBytes,
      { path: ["content"], error: `expected ${payloadBytes} characters at most` },
    );
    const small = 65_536;
    this.#subscribe = rulesOf("subscribe", accessAnswer, small);
    this.#online = rulesOf("online", accessAnswer, small);
    this.#beforeSend = rulesOf("beforeSend", replaced, small + jsonFactor * payloadBytes);
  }

  /** Undefined: nobody is asked, the user may join. Rejects with an {@linkcode EventError} when it may not. */
  subscribe(userId: string, groupId: string): Promise<void> | undefined {
    return access("subscribe", this.#subscribe, userId, groupId);
  }

  /** Undefined: nobody is asked, the user may see who is online. Rejects as {@linkcode subscribe}. */
  online(userId: string, groupId: string): Promise<void> | undefined {
    return access("online", this.#online, userId, groupId);
  }

  /**
   * Undefined: nobody is asked, the message is sent as it is.
   * @returns what to send; undefined: the sender alone gets it. Rejects with an {@linkcode EventError}: it is refused.
   */
  beforeSend(
    submission: Submission,
    clientMsgId: string | undefined,
  ): Promise<Submission | undefined> | undefined {
    const { type, targetId } = submission;
    const rule = this.#beforeSend.find(({ toUsers, fits }) =>
      type === 1 ? fits(targetId) : toUsers
    );
    return rule && judged(rule.asker, submission, clientMsgId);
  }
}

function access(
  decision: "subscribe" | "online",
  rules: readonly Rule<AccessAnswer>[],
  userId: string,
  groupId: string,
): Promise<void> | undefined {
  const rule = rules.find(({ fits }) => fits(groupId));
  if (rule === undefined) return undefined;
  const asked = asking(
    decision,
    () => rule.asker.ask({ decision, userId, groupId }, `${userId} ${groupId}`),
  );
  return asked.then((answer) => {
    if (answer?.action !== "refuse") return;
    throw new EventError(code.logicError, `${decision}: group ${groupId}: ${answer.reason}`);
  });
}

async function judged(
  asker: Asker<BeforeSendAnswer>,
  submission: Submission,
  clientMsgId: string | undefined,
): Promise<Submission | undefined> {
  const { fromId: userId, type, targetId, content } = submission;
  const answer = await asking("msg", () =>
    asker.ask({
      decision: "beforeSend",
      userId,
      ...(type === 1 ? { groupId: targetId } : { toUserId: targetId }),
      content,
      clientMsgId,
    }));
  switch (answer?.action) {
    case "refuse":
      throw new EventError(code.logicError, `msg: ${answer.reason}`);
    case "replace":
      return { ...submission, content: answer.content };
    case "hide":
      return undefined;
    default:
      return submission;
  }
}

/** @throws {EventError} that says to try again; why is for operators, in metrics and the log. */
async function asking<T>(event: string, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (!(error instanceof AskError)) throw error;
    throw new EventError(
      code.systemError,
      `${event}: not accepted: the business system does not decide now`,
    );
  }
}

/** What one client sends while decisions are waited for: to each target in the order in which it was sent. */
export class InOrder {
  /** Of each target the last message that has not begun to be sent. */
  readonly #last = new Map<Target, Promise<void>>();

  /**
   * Calls `send` with what was decided when everything earlier to this target has been begun or refused.
   * @param send has begun when it returns
   */
  async run<D, T>(target: Target, decided: Promise<D>, send: (decision: D) => Promise<T>) {
    const earlier = this.#last.get(target);
    const { promise: begun, resolve } = Promise.withResolvers<void>();
    this.#last.set(target, begun);
    const end = () => {
      if (this.#last.get(target) === begun) this.#last.delete(target);
      resolve();
    };
    const [decision] = await Promise.allSettled([decided, earlier]);
    let sent: Promise<T>;
    try {
      if (decision.status === "rejected") throw decision.reason;
      sent = send(decision.value);
    } finally {
      end();
    }
    return await sent;
  }
}
