/** Events made in Redis, see `lua/hooks.lua`, `lua/tell.lua`, `lua/resume.lua` and `lua/tell_nodes.lua`. */
import type { RedisCalls } from "../redis_calls.ts";
import type { HookEvent } from "./event.ts";
import { type GoneNode, onForMs, type Telling, type TellOptions, type Told } from "./telling.ts";

type Answer = [state: string, ...others: (string | number)[]];

/** Remembered events that one script adds at most. */
const pieceSize = 500;

export class RedisTelling implements Telling {
  readonly #calls: RedisCalls;
  readonly #nodes: string;
  readonly #garbage: string;

  constructor(calls: RedisCalls) {
    this.#calls = calls;
    this.#nodes = `gru_stat_nodes${calls.tag}`;
    this.#garbage = `gru_stat_garbage${calls.tag}`;
  }

  async tell(token: string, { graceMs, caller, most = 500 }: TellOptions): Promise<Told> {
    const [state, first, second, third, before] = await this.#calls.call<Answer>(
      ...["make events", "tell", [this.#nodes], [token, graceMs, onForMs, most, caller]] as const,
    );
    if (state === "fenced" || state === "waiting") return { state };
    if (state === "doubt") return { state, caller: String(first), last: String(second) };
    const nextMs = Number(third);
    return {
      state: "told",
      added: Number(first),
      more: second === 1,
      nextMs: nextMs < 0 ? undefined : nextMs,
      before: before === "" ? undefined : String(before),
    };
  }

  async reset(token: string, { graceMs }: TellOptions): Promise<boolean> {
    return await this.#resume([token, graceMs, onForMs, "reset"]);
  }

  async resume(
    token: string,
    events: readonly HookEvent[],
    { graceMs }: TellOptions,
  ): Promise<boolean> {
    for (let at = 0;;) {
      const piece = events.slice(at, at + pieceSize);
      at += pieceSize;
      const isLast = at >= events.length;
      const done = await this.#resume([
        ...[token, graceMs, onForMs, isLast ? "last" : "more"],
        ...piece.flatMap((
          { position, kind, subject, timeMs, data },
        ) => [position, kind, subject, timeMs, JSON.stringify(data)]),
      ]);
      if (!done || isLast) return done;
    }
  }

  async tellNodes(
    token: string,
    live: ReadonlyMap<string, number>,
    ends: ReadonlyMap<string, "left" | "died">,
  ): Promise<readonly GoneNode[]> {
    const args = [live, ends].map((map) => JSON.stringify(Object.fromEntries(map)));
    const [state, gone] = await this.#calls.call<Answer>(
      ...["make events of nodes", "tellNodes", [], [token, ...args]] as const,
    );
    if (state !== "told") return [];
    return (JSON.parse(String(gone)) as [string, number][])
      .map(([name, startedAt]) => ({ name, startedAt }));
  }

  async #resume(args: (string | number)[]): Promise<boolean> {
    const keys = [this.#nodes, this.#garbage];
    const [state] = await this.#calls.call<Answer>("go on with events", "resume", keys, args);
    return state !== "fenced";
  }
}
