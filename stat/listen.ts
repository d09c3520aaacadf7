/**
 * The messages of targets as server-sent events. A spear is asked for more only when the reader has taken what came
 * before: who reads slowly gets samples, and holds up nobody.
 */
import { setTimeout as pause } from "node:timers/promises";
import type { TargetOfCommand } from "@gru/spear/contract";
import type { Operations } from "./operations.ts";

export interface ListenOptions {
  readonly operations: Operations;
  readonly targets: readonly TargetOfCommand[];
  /** Ends the stream. */
  readonly closing: AbortSignal;
}

/** Messages in one event: more than a person reads. */
const limit = 50;
/** Between two events, so that a flood costs few of them. */
const gapMs = 200;
/** A stream without messages says so often that it is alive. */
const waitMs = 5000;

export function listenStream({ operations, targets, closing }: ListenOptions): Response {
  const listenerId = crypto.randomUUID();
  const stopped = new AbortController();
  const signal = AbortSignal.any([closing, stopped.signal]);
  const encoder = new TextEncoder();
  let node: string | undefined;

  /** What is written next. */
  async function next(): Promise<string> {
    if (node === undefined || !operations.live.has(node)) {
      const nodes = [...operations.live];
      node = nodes[Math.floor(Math.random() * nodes.length)];
      if (node === undefined) {
        await pause(1000, undefined, { signal });
        return event("away", { message: "no spear is alive" });
      }
      // The first call begins to listen; what comes after it is heard.
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
    await pause(gapMs, undefined, { signal });
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
        await pause(1000, undefined, { signal }).catch(() => {});
        text = event("away", { message: error instanceof Error ? error.message : String(error) });
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
