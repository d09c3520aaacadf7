/**
 * Something that must be so elsewhere, with the job that makes it so. Runs one at a time; calls made during a run share
 * one that starts after it, so that whoever asks is answered by a run that saw what made them ask.
 */
export class Duty {
  readonly #job: () => Promise<void>;
  readonly #onFailure: (error: unknown) => void;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #settled = false;

  /** `onFailure` hears of runs that nobody awaits. */
  constructor(job: () => Promise<void>, onFailure: (error: unknown) => void) {
    this.#job = job;
    this.#onFailure = onFailure;
  }

  /** The last run succeeded and none was asked for since. */
  get settled(): boolean {
    return this.#settled;
  }

  /** Settles with a run that begins no earlier than now. */
  settle(): Promise<void> {
    this.#settled = false;
    if (this.#running === undefined) {
      return this.#running = this.#run().finally(() => this.#running = undefined);
    }
    return this.#next ??= this.#running.catch(() => {}).then(() => {
      this.#next = undefined;
      return this.settle();
    });
  }

  /** As {@linkcode settle}, for those who do not wait. */
  kick(): void {
    this.settle().catch(this.#onFailure);
  }

  async #run(): Promise<void> {
    await this.#job();
    this.#settled = this.#next === undefined;
  }
}
