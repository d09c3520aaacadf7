/** The interface of a page of the console. */
import type { Snapshot } from "../snapshot.ts";

export interface PageOptions {
  /** Empty; the page fills it. */
  readonly main: HTMLElement;
  readonly mayAct: boolean;
  /** The console makes tokens for simulated clients. */
  readonly makesTokens: boolean;
  /** What follows the page's name in the address: `#/people/user/5` gives `["user", "5"]`. */
  readonly path: readonly string[];
}

/** Puts what is shown into the address, so that a reload and a copied link show it again. */
export function remember(...path: readonly string[]): void {
  history.replaceState(null, "", `#/${path.map(encodeURIComponent).join("/")}`);
}

export interface Page {
  /** Gets the last snapshot, if there is one, and then every new one. */
  update?(snapshot: Snapshot): void;
  /** Ends timers and connections of the page. */
  stop?(): void;
}
