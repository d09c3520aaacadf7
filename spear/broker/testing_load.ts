/** Load on brokers for fault tests, with a count of every violation. */
import assert from "node:assert/strict";
import { waitFor } from "@gru/shared/testing/harness";
import { type Accepted, InDoubtError, NotAcceptedError } from "./broker.ts";
import { type Collector, newTarget, type TestNode } from "./testing.ts";
import type { Target } from "../wire.ts";

export interface Outcome {
  readonly accepted: number;
  readonly refused: number;
  readonly inDoubt: number;
  /** Accepted, but missing at some member. */
  readonly lost: number;
  /** Received twice by some member. */
  readonly doubled: number;
  readonly outOfOrder: number;
  /** Rejected, but received by some member. */
  readonly falselyRefused: number;
  /** Epochs that members have seen, beyond the first of each target. */
  readonly newEpochs: number;
  /** The longest time from a publication's call to its end. */
  readonly slowestMs: number;
  /** Each reason for a rejection or an unknown outcome, once. */
  readonly reasons: readonly string[];
}

const everyMs = 10;

/** Publishes steadily from all nodes to a few targets, with a member on every node. */
export class Load {
  readonly #nodes: readonly TestNode[];
  readonly #perTick: number;
  readonly targets: readonly Target[];
  readonly #members = new Map<Target, Collector[]>();
  readonly #accepted = new Map<string, { readonly target: Target; readonly answer: Accepted }>();
  readonly #refused = new Set<string>();
  readonly #inDoubt = new Set<string>();
  readonly #unsettled = new Set<Promise<void>>();
  #timer: ReturnType<typeof setInterval> | undefined;
  readonly #reasons = new Set<string>();
  #sent = 0;
  #slowestMs = 0;

  private constructor(nodes: readonly TestNode[], targets: number, perTick: number) {
    this.#nodes = nodes;
    this.#perTick = perTick;
    this.targets = Array.from({ length: targets }, newTarget);
  }

  static async start(
    nodes: readonly TestNode[],
    options: { readonly targets?: number; readonly perTick?: number } = {},
  ): Promise<Load> {
    const load = new Load(nodes, options.targets ?? 5, options.perTick ?? 8);
    for (const target of load.targets) {
      load.#members.set(target, await Promise.all(nodes.map((node) => node.member(target))));
    }
    load.resume();
    return load;
  }

  get sent(): number {
    return this.#sent;
  }

  get acceptedCount(): number {
    return this.#accepted.size;
  }

  resume(): void {
    this.#timer ??= setInterval(() => {
      for (let i = 0; i < this.#perTick; i++) this.#publish();
    }, everyMs);
  }

  /** Waits until this many more publications have been accepted. */
  async goesOn(count = 200): Promise<void> {
    const before = this.#accepted.size;
    await waitFor(() => this.#accepted.size >= before + count, {
      what: `${count} more publications accepted`,
      timeoutMs: 60_000,
    });
  }

  /** Stops, waits until everything has settled and arrived, and counts. */
  async finish(): Promise<Outcome> {
    await this.pause();
    const missing = () => this.#missing().length;
    // What has not arrived by then is lost; the wait must end at some point.
    await waitFor(() => missing() === 0, { timeoutMs: 10_000 }).catch(() => {});
    let [doubled, outOfOrder, falselyRefused, newEpochs] = [0, 0, 0, 0];
    for (const members of this.#members.values()) {
      const epochs = new Set<string>();
      for (const { frames, ids } of members) {
        doubled += ids.length - new Set(ids).size;
        falselyRefused += ids.filter((id) => this.#refused.has(id)).length;
        frames.forEach((frame, i) => {
          epochs.add(frame.epoch);
          const before = frames[i - 1];
          if (before?.epoch === frame.epoch && before.seq >= frame.seq) outOfOrder++;
        });
        for (let node = 0; node < this.#nodes.length; node++) {
          const numbers = ids.filter((id) => id.startsWith(`${node}-`)).map((id) =>
            Number(id.slice(2))
          );
          outOfOrder += numbers.filter((number, i) => number < (numbers[i - 1] ?? 0)).length;
        }
      }
      newEpochs += Math.max(0, epochs.size - 1);
    }
    return {
      accepted: this.#accepted.size,
      refused: this.#refused.size,
      inDoubt: this.#inDoubt.size,
      lost: missing(),
      doubled,
      outOfOrder,
      falselyRefused,
      newEpochs,
      slowestMs: Math.round(this.#slowestMs),
      reasons: [...this.#reasons],
    };
  }

  /** Publishes nothing more, and resolves when everything has settled. */
  async pause(): Promise<void> {
    this[Symbol.dispose]();
    await Promise.all(this.#unsettled);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #publish(): void {
    const number = this.#sent++;
    const at = number % this.#nodes.length;
    const id = `${at}-${number}`;
    const target = this.targets[number % this.targets.length] as Target;
    const startedAt = performance.now();
    const settled = (this.#nodes[at] as TestNode).publish(target, id).then(
      (answer) => void this.#accepted.set(id, { target, answer }),
      (error) => {
        if (error instanceof NotAcceptedError) this.#refused.add(id);
        else if (error instanceof InDoubtError) this.#inDoubt.add(id);
        else throw error;
        this.#reasons.add(error.message);
      },
    ).finally(() => {
      this.#slowestMs = Math.max(this.#slowestMs, performance.now() - startedAt);
      this.#unsettled.delete(settled);
    });
    this.#unsettled.add(settled);
  }

  #missing(): string[] {
    const seen = new Map(
      this.#members.entries().map(([target, members]) =>
        [target, members.map(({ ids }) => new Set(ids))] as const
      ),
    );
    return this.#accepted.entries().filter(([id, { target }]) =>
      !(seen.get(target) ?? []).every((ids) => ids.has(id))
    ).map(([id]) => id).toArray();
  }
}

/** Prints the outcome as one line of a table. */
export function report(fault: string, outcome: Outcome): void {
  const { accepted, refused, inDoubt, lost, doubled, outOfOrder, newEpochs, slowestMs, reasons } =
    outcome;
  // deno-lint-ignore no-console
  console.log(
    `${fault}: accepted ${accepted}, refused ${refused}, in doubt ${inDoubt}, lost ${lost}, doubled ${doubled}, ` +
      `out of order ${outOfOrder}, new epochs ${newEpochs}, slowest answer ${slowestMs} ms` +
      reasons.map((reason) => `, ${reason}`).join(""),
  );
}

/** Checks that nothing accepted is lost, nothing arrives twice, nothing rejected arrives, and the order is kept. */
export function assertFlawless(outcome: Outcome): void {
  const { lost, doubled, outOfOrder, falselyRefused } = outcome;
  assert.deepEqual({ lost, doubled, outOfOrder, falselyRefused }, {
    ...{ lost: 0, doubled: 0, outOfOrder: 0, falselyRefused: 0 },
  });
}
