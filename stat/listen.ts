/**
 * The messages of targets as server-sent events. More messages are requested from a spear only after the reader has
 * taken the previous ones. So a slow reader gets samples and delays nobody.
 */
import { pause } from "@gru/shared/pause";
import { redact } from "@gru/shared/redact";
import type { TargetOfCommand } from "@gru/spear/contract";
import type { Operations } from "./operations.ts";

export interface ListenOptions {
  readonly operations: Operations;
  readonly targets: readonly TargetOfCommand[];
  /** Ends the stream. */
  readonly closing: AbortSignal;
}

/** The most messages in one event: more than a person can read. */
const limit = 50;
/** The pause between two events, so that a flood of messages causes few events. */
const gapMs = 200;
/** A stream without messages sends a sign of life this often. */
const waitMs = 5000;

export function listenStream({ operations, targets, closing }: ListenOptions): Response {
  const listenerId = crypto.randomUUID();
  const stopped = new AbortController();
  const signal = AbortSignal.any([closing, stopped.signal]);
  const encoder = new TextEncoder();
  let node: string | undefined;

  /** The next text to write. */
  async function next(): Promise<string> {
    if (node === undefined || !operations.live.has(node)) {
      const nodes = [...operations.live];
      node = nodes[Math.floor(Math.random() * nodes.length)];
      if (node === undefined) {
        await pause(1000, signal);
        return event("away", { message: "no spear is alive" });
      }
      // Listening starts with the first call; later messages are received.
      await operations.spears.at(node).listen(
        { listenerId, targets: [...targets], limit, waitMs: 0 },
        { signal },
      );
      return event("listening", { node });
    }
    const heard = await operations.spears.at(node).listen(
      { listenerId, targets: [...targets], limit, waitMs },
      { signal, timeoutMs: waitMs + 3000 },
    );
    if (heard.seen === 0) return ": nothing\n\n";
    await pause(gapMs, signal);
    return event("messages", heard);
  }

  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      let text: string;
      try {
        text = await next();
      } catch (error) {
        if (signal.aborted) return controller.close();
        node = undefined;
        await pause(1000, signal);
        text = event("away", {
          message: redact(error instanceof Error ? error.message : String(error)),
        });
      }
      if (signal.aborted) return controller.close();
      controller.enqueue(encoder.encode(text));
    },
    cancel: () => stopped.abort(),
  });
  return new Response(body, {
    headers: { "content-type": "text/event-stream", "cache-control": "no-store" },
  });
}

function event(name: string, data: object): string {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}
