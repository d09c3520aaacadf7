/** Lets so many run at a time, the others each in its turn, the oldest first. */
export class Turns {
  readonly #atOnce: number;
  /** Each resolves when one of the last runs has ended, the oldest first. */
  readonly #runs: Promise<void>[] = [];

  constructor(atOnce: number) {
    this.#atOnce = atOnce;
  }

  async run<T>(job: () => Promise<T>): Promise<T> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const [earlier] = this.#runs.length < this.#atOnce ? [] : this.#runs.splice(0, 1);
    this.#runs.push(promise);
    try {
      await earlier;
      return await job();
    } finally {
      resolve();
    }
  }
}
