/** Repeats some work, one run after the other. */
import { pause } from "./pause.ts";

export interface Repeated extends AsyncDisposable {
  /** Ends the present pause at once. */
  hurry(): void;
}

/**
 * Runs the work now, and again after each pause, until disposed. Disposing aborts the signal and waits for a run under
 * way.
 * @param work resolves to the milliseconds until the next run; must not reject
 */
export function repeat(work: (signal: AbortSignal) => Promise<number>): Repeated {
  const stopped = new AbortController();
  const { signal } = stopped;
  let hurried = new AbortController();

  async function run(): Promise<void> {
    while (!signal.aborted) {
      hurried = new AbortController();
      const pauseMs = await work(signal);
      if (!signal.aborted) await pause(pauseMs, hurried.signal);
    }
  }

  const running = run();
  return {
    hurry: () => hurried.abort(),
    [Symbol.asyncDispose]: async () => {
      stopped.abort();
      hurried.abort();
      await running;
    },
  };
}
