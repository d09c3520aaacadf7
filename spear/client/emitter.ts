/** Listeners by the name of an event. */
export class Emitter<Events extends object> {
  readonly #listeners = new Map<keyof Events, Set<(argument: never) => void>>();

  /** @returns a function that ends the listening. */
  on<E extends keyof Events>(event: E, listener: (argument: Events[E]) => void): () => void {
    const all = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, all.add(listener));
    return () => void all.delete(listener);
  }

  /** One that throws is an error of the application: it is reported as such, and stops nothing here. */
  emit<E extends keyof Events>(event: E, argument: Events[E]): void {
    for (const listener of this.#listeners.get(event) ?? []) {
      try {
        (listener as (argument: Events[E]) => void)(argument);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
