/**
 * Tells systemd (`Type=notify`) that the program is up, that it is alive, and that it is stopping.
 *
 * Reads NOTIFY_SOCKET, WATCHDOG_USEC and RUNTIME_DIRECTORY, which systemd sets for a unit with `Type=notify`, `WatchdogSec=` and
 * `RuntimeDirectory=`. Deno sends datagrams only from a socket that has a path of its own: it is made in the runtime
 * directory and removed at once. Needs the permissions to read that directory and to write there and to NOTIFY_SOCKET.
 */
import type { Logger } from "./log.ts";
import type { Readiness } from "./readiness.ts";

export interface ServiceManager extends Disposable {
  /** The program has started; it counts as up when it serves. */
  started(readiness: Readiness | undefined): void;
  stopping(): void;
}

/** Alive is said this many times in the time after which systemd ends the program. */
const timesPerLimit = 3;

/** undefined: no service manager wants to hear of this program, or it cannot be reached, which the log says. */
export function openServiceManager(
  log: Logger,
  environment: (name: string) => string | undefined = Deno.env.get,
): ServiceManager | undefined {
  const path = environment("NOTIFY_SOCKET");
  if (path === undefined || path === "") return undefined;
  const [directory = ""] = (environment("RUNTIME_DIRECTORY") ?? "").split(":");
  const problem = (error: unknown) => {
    log.warn(
      "systemd is not told that this program is up: {error}; the unit needs RuntimeDirectory=gru/<program>, and a start by " +
        "`deno task` GRU_PERMISSIONS with --allow-read and --allow-write for that directory and {path}",
      { error, path },
    );
  };
  if (directory === "") {
    problem(new Error("the variable RUNTIME_DIRECTORY is missing"));
    return undefined;
  }
  let socket: Deno.DatagramConn;
  try {
    const own = `${directory}/notify-${Deno.pid}`;
    socket = Deno.listenDatagram({ transport: "unixpacket", path: own });
    Deno.removeSync(own);
  } catch (error) {
    problem(error);
    return undefined;
  }

  const timers: ReturnType<typeof setInterval>[] = [];
  let failed = false;
  let closed = false;
  // One after the other: a socket that is sending refuses to send more.
  let sending = Promise.resolve();
  function send(...lines: string[]): Promise<void> {
    return sending = sending.then(() => trySend(lines));
  }
  async function trySend(lines: readonly string[]): Promise<void> {
    try {
      const text = new TextEncoder().encode(lines.join("\n"));
      await socket.send(text, { transport: "unixpacket", path: path ?? "" });
    } catch (error) {
      if (!failed && !closed) problem(error);
      failed = true;
    }
  }

  const limitMs = Number(environment("WATCHDOG_USEC") ?? 0) / 1000;
  // Runs in the event loop, as everything that the program does: when that stands still, this does.
  if (limitMs > 0) timers.push(setInterval(() => void send("WATCHDOG=1"), limitMs / timesPerLimit));

  return {
    started: (readiness) => {
      const ready = () => closed ? undefined : send("READY=1", "STATUS=ready");
      const status = () => {
        const missing = Object.keys(readiness?.missing ?? {}).join(", ");
        void send(missing === "" ? "STATUS=ready" : `STATUS=not ready: ${missing}`);
      };
      if (readiness === undefined) return void ready();
      if (!readiness.serving) status();
      void readiness.whenReady().then(ready);
      readiness.listen(status);
    },
    stopping: () => void send("STOPPING=1"),
    [Symbol.dispose]: () => {
      closed = true;
      for (const timer of timers) clearInterval(timer);
      socket.close();
    },
  };
}
