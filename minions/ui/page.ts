/** What a page of the console is. */
import type { Snapshot } from "../snapshot.ts";

export interface PageOptions {
  /** Empty; the page fills it. */
  readonly main: HTMLElement;
  readonly mayAct: boolean;
}

export interface Page {
  /** Given the last snapshot, if there is one, and then every new one. */
  update?(snapshot: Snapshot): void;
  /** Ends whatever goes on by itself. */
  stop?(): void;
}
