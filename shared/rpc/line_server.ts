/** The callee's end of calls over one connection, see `lines.ts`. */
import type { Upgraded } from "../http/serve.ts";
import { RpcError, rpcStatus } from "./contract.ts";
import type { Dispatcher } from "./dispatch.ts";
import { Lines, type Seal } from "./lines.ts";
import { errorText, excerpt, maxTimeoutMs } from "./wire.ts";

/** Calls that come often are small, and so are their answers. */
const mostWaiting = 1024 * 1024;

export function serveLines(
  connection: Upgraded,
  service: string,
  dispatcher: Dispatcher,
  seal: Seal | undefined,
): void {
  const lines = new Lines({
    ...{ socket: connection.socket, seal, side: "callee", mostWaiting, words: 4 },
    onLine: ([number = "", method = "", timeout = "", text = ""]) => {
      if (!/^\d{1,15}$/.test(number) || !/^[1-9]\d{0,8}$/.test(timeout)) return false;
      const started = performance.now();
      const timeoutMs = Math.min(Number(timeout), maxTimeoutMs);
      connection.began();
      answer(method, { started, timeoutMs, readInput: () => parse(text) })
        .then(([status, answer]) => lines.send(number, status, answer))
        .finally(() => connection.ended());
      return true;
    },
  });

  /** Never rejects. */
  async function answer(
    method: string,
    work: Parameters<Dispatcher["run"]>[2],
  ): Promise<[status: number, text: string]> {
    try {
      return [200, await dispatcher.run(service, excerpt(method), work)];
    } catch (error) {
      const { code } = error as RpcError;
      return [rpcStatus[code], errorText(error as RpcError)];
    }
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new RpcError("invalid_argument", `The body is not JSON: ${excerpt(text) || "empty"}`);
  }
}
