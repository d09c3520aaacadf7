/** Events made in Redis, see `lua/hooks.lua`, `lua/tell.lua`, `lua/resume.lua` and `lua/tell_nodes.lua`. */
import type { RedisCalls } from "../redis_calls.ts";
import type { HookEvent } from "./event.ts";
import {
  activeMs,
  type GoneNode,
  onForMs,
  readEveryMs,
  type ReadLog,
  type TargetPosition,
  type Telling,
  type TellOptions,
  type Told,
} from "./telling.ts";

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

  async tell(
    token: string,
    { graceMs, caller, messages = false, most = 500 }: TellOptions,
  ): Promise<Told> {
    const [state, first, second, third, before] = await this.#calls.call<Answer>(
      ...["make events", "tell", [this.#nodes], [
        ...[token, graceMs, onForMs, most, caller, messages ? 1 : 0],
      ]] as const,
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

  async active(targets: readonly TargetPosition[]): Promise<boolean> {
    const args = targets.flatMap((one) => [nameOf(one.target), positionText(one)]);
    return await this.#calls.call("note active targets", "active", [], args) === 1;
  }

  async unread(token: string, most: number): Promise<readonly TargetPosition[]> {
    const [, ...found] = await this.#calls.call<string[]>(
      ...["find unread messages", "unread", [], [token, most]] as const,
    );
    return found.flatMap((name, i) => {
      if (i % 2 === 1) return [];
      const [kind = "", ...id] = name.split(":");
      const [epoch = "", seq] = (found[i + 1] ?? "").split(" ");
      const target = { kind: kind as "user" | "group", id: id.join(":") };
      return [{ target, epoch, seq: Number(seq) }];
    });
  }

  async tellMessages(token: string, { from, to, lost, more, messages }: ReadLog): Promise<void> {
    await this.#calls.call("make events of messages", "tellMessages", [this.#nodes], [
      ...[token, nameOf(from.target), positionText(from), positionText(to)],
      ...[lost ? 1 : 0, more ? 1 : 0, readEveryMs, activeMs],
      ...messages.map((message) => JSON.stringify(message)),
    ]);
  }

  async #resume(args: (string | number)[]): Promise<boolean> {
    const keys = [this.#nodes, this.#garbage];
    const [state] = await this.#calls.call<Answer>("go on with events", "resume", keys, args);
    return state !== "fenced";
  }
}

function nameOf({ kind, id }: TargetPosition["target"]): string {
  return `${kind}:${id}`;
}

function positionText({ epoch, seq }: Pick<TargetPosition, "epoch" | "seq">): string {
  return `${epoch} ${seq}`;
}
