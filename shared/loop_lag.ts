/** How busy this process is: what is late is what all its clients wait for. */

const waitMs = 5;

/** How late a timer runs just now, in seconds. Takes that long, and 5 ms. */
export function eventLoopLagSeconds(): Promise<number> {
  const due = performance.now() + waitMs;
  return new Promise((resolve) => {
    setTimeout(() => resolve(Math.max(0, performance.now() - due) / 1000), waitMs);
  });
}
