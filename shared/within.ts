/** Bounded waits. When the time is up, neither stops the work; its result is then ignored. */

/** Settles as the work does. Rejects with the error made by `late` when the work takes longer than `ms`. */
export async function inTime<T>(work: Promise<T>, ms: number, late: () => Error): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(late()), ms);
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves when the work has ended, with or without success, and after `ms` at the latest. */
export async function within(work: Promise<unknown>, ms: number): Promise<void> {
  await inTime(work, ms, () => new Error()).catch(() => {});
}
