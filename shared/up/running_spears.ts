/** The spears of one process, each of which can be taken away for a while, so that one sees what clients do. */
import { logger } from "@gru/shared/log";
import { pause } from "@gru/shared/pause";
import type { SpearConfig } from "../../spear/config.ts";
import { type Spear, type SpearOverrides, startSpear } from "../../spear/spear.ts";

/** Long enough to be seen. */
const awayMs = 5000;

export class RunningSpears implements AsyncDisposable {
  readonly #overrides: SpearOverrides;
  readonly #running = new Map<string, { readonly spear: Spear; readonly config: SpearConfig }>();
  readonly #restarts = new Set<Promise<void>>();
  readonly #closing = new AbortController();

  private constructor(overrides: SpearOverrides) {
    this.#overrides = overrides;
  }

  static async start(
    configs: readonly SpearConfig[],
    overrides: SpearOverrides,
  ): Promise<RunningSpears> {
    await using stack = new AsyncDisposableStack();
    const spears = stack.use(new RunningSpears(overrides));
    for (const config of configs) await spears.#start(config);
    stack.move();
    return spears;
  }

  /** `spear1`, … */
  get(name: string): Spear | undefined {
    return this.#running.get(name)?.spear;
  }

  /** Its connections end at once; a few seconds later it is there again. @returns false where none of that name runs now */
  stopForAWhile(name: string): boolean {
    const running = this.#running.get(name);
    if (running === undefined) return false;
    this.#running.delete(name);
    // It starts again on the port that clients know.
    const port = Number(new URL(running.spear.address).port);
    const restart = this.#restart(running.spear, { ...running.config, port })
      .finally(() => this.#restarts.delete(restart));
    this.#restarts.add(restart);
    return true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#restarts);
    for (const { spear } of [...this.#running.values()].reverse()) {
      await spear[Symbol.asyncDispose]();
    }
  }

  async #start(config: SpearConfig): Promise<void> {
    const spear = await startSpear(config, this.#overrides);
    this.#running.set(`spear${config.id}`, { spear, config });
  }

  async #restart(spear: Spear, config: SpearConfig): Promise<void> {
    try {
      await spear[Symbol.asyncDispose]();
      await pause(awayMs, this.#closing.signal).catch(() => {});
      if (!this.#closing.signal.aborted) await this.#start(config);
    } catch (error) {
      logger("up").error("spear{id} could not be started again: {error}", { id: config.id, error });
    }
  }
}
