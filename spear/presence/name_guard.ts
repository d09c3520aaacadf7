/**
 * Detects that another process runs under this node's name, as after a freeze that lasted longer than the session.
 * stat, commands and tickets then mean the other process. Such a node serves no clients until the name is its own
 * again.
 */
import type { Logger } from "@gru/shared/log";
import type { Registration } from "@gru/shared/registry/registry";

export interface NameGuardOptions {
  readonly node: string;
  readonly registration: Pick<Registration, "held" | "update">;
  /** Called again and again while another process has the name. Must refuse new clients and move present ones away. */
  readonly onLost: () => Promise<void>;
  readonly onRegained: () => void;
  readonly log: Logger;
}

export interface NameGuard extends AsyncDisposable {
  /** Asks the registry now; undefined: it cannot be reached. */
  holds(): Promise<boolean | undefined>;
}

const lookEveryMs = 200;

export function guardName(options: NameGuardOptions): NameGuard {
  const { node, registration, onLost, onRegained, log } = options;
  let lost = false;
  let leaving: Promise<void> | undefined;

  function look(): void {
    if (!registration.held) {
      if (!lost) {
        log.error(
          "another process runs under the name {node}: present clients are moved and new ones refused until that process has ended",
          { node },
        );
      }
      lost = true;
      leaving ??= onLost().finally(() => leaving = undefined);
    } else if (lost) {
      lost = false;
      log.info("the name {node} belongs to this process again: clients are accepted", { node });
      onRegained();
    }
  }

  const timer = setInterval(look, lookEveryMs);
  return {
    holds: async () => {
      try {
        // Runs the registration's reconciler: it compares the registration with the registry.
        await registration.update({});
      } catch {
        if (registration.held) return undefined;
      }
      look();
      return registration.held;
    },
    [Symbol.asyncDispose]: async () => {
      clearInterval(timer);
      await leaving;
    },
  };
}
