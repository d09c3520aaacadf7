/** Attackers in a thread of their own, so that they do not hold up the honest clients' measuring. For tests. */
import { forms } from "./attack_line.ts";
import { type AttackCounts, type Attacker, attacks, tokens } from "./attackers.ts";

/** What the thread is sent; it answers with {@linkcode AttackCounts}. */
export interface AttackOrder {
  readonly kind: string;
  readonly endpoint: Attacker["endpoint"];
  /** Of {@linkcode forms}, by number; connections take them in turn. */
  readonly forms: readonly number[];
  readonly connections: number;
  readonly ms: number;
  readonly token2Secret: string;
  readonly stolen: Attacker["stolen"];
}

async function run(order: AttackOrder): Promise<AttackCounts> {
  const { kind, endpoint, connections, ms, stolen } = order;
  const attack = attacks[kind];
  if (attack === undefined) throw new Error(`no attack of the kind ${kind}`);
  const counts: AttackCounts = { opened: 0, ended: 0, sentBytes: 0, wrong: [] };
  const overAt = performance.now() + ms;
  const token = tokens(order.token2Secret);
  await Promise.all(Array.from({ length: connections }, async (_, index) => {
    const form = forms[order.forms[index % order.forms.length] ?? 0];
    if (form === undefined) throw new Error("no such form");
    const userId = 100_001 + index % 2;
    await attack({
      ...{ endpoint, form, index, userId, stolen, counts },
      token2: () => token(userId),
      over: () => performance.now() > overAt,
    });
  }));
  return counts;
}

const thread = globalThis as unknown as {
  onmessage: (event: MessageEvent<AttackOrder>) => void;
  postMessage(counts: AttackCounts): void;
};
thread.onmessage = async ({ data }) => thread.postMessage(await run(data));
