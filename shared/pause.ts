/**
 * Resolves after `ms` milliseconds, or as soon as the signal is aborted. Uses the global clock, which a simulation can
 * replace, unlike `node:timers/promises`.
 */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (signal?.aborted) {
    resolve();
    return promise;
  }
  const end = () => {
    clearTimeout(timer);
    // A signal may live much longer than a pause.
    signal?.removeEventListener("abort", end);
    resolve();
  };
  const timer = setTimeout(end, ms);
  signal?.addEventListener("abort", end);
  return promise;
}
