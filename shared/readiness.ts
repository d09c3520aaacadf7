/**
 * What a program still lacks to serve. Each thing that it needs is a {@linkcode Need}, which is met or missing, with the
 * reason. Others are sent to a program only while it serves: from the moment when all its needs are met, until one of them
 * has been missing for longer than a short disturbance lasts.
 */
import type { Logger } from "./log.ts";

export interface Need {
  met(): void;
  /**
   * @param why what is wrong, and what mends it, without secrets
   * @param atOnce it will not pass by itself, so the program stops serving without waiting
   */
  miss(why: string, options?: { readonly atOnce?: boolean }): void;
}

interface Missing {
  readonly why: string;
  readonly since: number;
  readonly atOnce: boolean;
}

/** The servers of a cluster replace each other within this time, and at a start most needs are met within it. */
const graceMs = 3000;
const lookEveryMs = 250;

export class Readiness implements Disposable {
  readonly #name: string;
  readonly #log: Logger;
  readonly #needs = new Map<string, Missing | undefined>();
  readonly #listeners = new Set<() => void>();
  readonly #ready = Promise.withResolvers<void>();
  readonly #startedAt = performance.now();
  #timer: ReturnType<typeof setInterval> | undefined;
  #started = false;
  #serving = false;
  #served = false;
  #logged = "";

  constructor(name: string, log: Logger) {
    this.#name = name;
    this.#log = log;
  }

  /** Something that is missing until it is met. @param name as `/readyz` shows it */
  need(name: string, why: string): Need {
    this.#needs.set(name, { why, since: performance.now(), atOnce: false });
    this.#watch();
    return {
      met: () => {
        if (this.#needs.get(name) === undefined) return;
        this.#needs.set(name, undefined);
        this.#judge();
      },
      miss: (why, { atOnce = false } = {}) => {
        const before = this.#needs.get(name);
        if (before?.why === why && before.atOnce === atOnce) return;
        this.#needs.set(name, { why, since: before?.since ?? performance.now(), atOnce });
        this.#judge();
        this.#watch();
      },
    };
  }

  /** All needs are known by now. */
  start(): void {
    this.#started = true;
    this.#judge();
  }

  /** For `/readyz`: whether each need is met at this moment. */
  get checks(): Readonly<Record<string, boolean>> {
    return Object.fromEntries([...this.#needs].map(([name, missing]) => [name, !missing]));
  }

  /** Why each missing need is missing. */
  get missing(): Readonly<Record<string, string>> {
    return Object.fromEntries(
      [...this.#needs].flatMap(([name, missing]) => missing ? [[name, missing.why]] : []),
    );
  }

  /** Others may be sent here. */
  get serving(): boolean {
    return this.#serving;
  }

  /** It has been serving at some time. */
  get served(): boolean {
    return this.#served;
  }

  /** Resolves when the program serves for the first time. */
  whenReady(): Promise<void> {
    return this.#ready.promise;
  }

  /** Calls the listener whenever {@linkcode serving} has changed. */
  listen(onChange: () => void): Disposable {
    this.#listeners.add(onChange);
    return { [Symbol.dispose]: () => void this.#listeners.delete(onChange) };
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#listeners.clear();
    this.#started = false;
  }

  /** There is a timer only while something is missing. */
  #watch(): void {
    this.#timer ??= setInterval(() => this.#judge(), lookEveryMs);
  }

  #judge(): void {
    if (!this.#started) return;
    const now = performance.now();
    const missing = [...this.#needs.values()].filter((one) => one !== undefined);
    const late = missing.filter(({ since, atOnce }) => atOnce || now - since >= graceMs);
    if (missing.length === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
      this.#show(true);
    } else if (late.length > 0) {
      this.#show(false);
      if (this.#served || now - this.#startedAt >= graceMs || late.some((one) => one.atOnce)) {
        this.#say();
      }
    }
  }

  #show(serving: boolean): void {
    if (serving === this.#serving) return;
    this.#serving = serving;
    if (serving) {
      if (this.#logged !== "") this.#log.info("{name} is ready now", { name: this.#name });
      this.#logged = "";
      this.#served = true;
      this.#ready.resolve();
    }
    for (const listener of [...this.#listeners]) listener();
  }

  /** Once, and again when the reasons have changed. */
  #say(): void {
    const reasons = Object.entries(this.missing).map(([name, why]) => `${name}: ${why}`).join("; ");
    if (reasons === this.#logged) return;
    this.#logged = reasons;
    this.#log.warn("{name} is not ready, and nobody is sent to it: {reasons}", {
      ...{ name: this.#name, reasons },
    });
  }
}

/** Waits until the program serves. @throws {Error} when it is stopped before */
export async function readyUnlessStopped(readiness: Readiness, stop?: AbortSignal): Promise<void> {
  const { promise: stopped, reject } = Promise.withResolvers<never>();
  const onStop = () => reject(new Error("stopped before it was ready"));
  if (stop?.aborted) onStop();
  stop?.addEventListener("abort", onStop, { once: true });
  try {
    await Promise.race([readiness.whenReady(), stopped]);
  } finally {
    stop?.removeEventListener("abort", onStop);
  }
}
