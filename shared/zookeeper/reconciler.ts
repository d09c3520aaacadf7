/**
 * Brings a part of the outside world into the wanted state, by running a job. Runs one job at a time. Calls made during
 * a run share one run that starts after it, so every caller gets a run that started after its call.
 */
export class Reconciler {
  readonly #job: () => Promise<void>;
  readonly #onFailure: (error: unknown) => void;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #settled = false;

  /** `onFailure` is called for failed runs that nobody awaits. */
  constructor(job: () => Promise<void>, onFailure: (error: unknown) => void) {
    this.#job = job;
    this.#onFailure = onFailure;
  }

  /** The last run succeeded, and no run was requested since. */
  get settled(): boolean {
    return this.#settled;
  }

  /** Settles with a run that starts no earlier than now. */
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

  /** As {@linkcode settle}, for callers that do not wait. */
  kick(): void {
    this.settle().catch(this.#onFailure);
  }

  async #run(): Promise<void> {
    await this.#job();
    this.#settled = this.#next === undefined;
  }
}
