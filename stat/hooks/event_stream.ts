/** The events as server-sent events, for business systems without an endpoint. Any stat answers. */
import { pause } from "@gru/shared/pause";
import { redact } from "@gru/shared/redact";
import { cloudEvent } from "./cloud_event.ts";
import { comparePositions } from "./event.ts";
import type { Outbox } from "./outbox.ts";
import { isWanted, type Wanted } from "./wanted.ts";

export interface EventStreamOptions {
  readonly outbox: Pick<Outbox, "read" | "newest">;
  readonly source: string;
  readonly wanted: Wanted;
  /** Only what comes after this position. Undefined: only what comes from now on. */
  readonly after: string | undefined;
  /** Ends the stream. */
  readonly closing: AbortSignal;
}

const perRead = 100;
const lookMs = 300;
/** A stream without events sends a sign of life this often. */
const quietMs = 5000;

export function eventStream(options: EventStreamOptions): Response {
  const { outbox, source, wanted, closing } = options;
  const stopped = new AbortController();
  const signal = AbortSignal.any([closing, stopped.signal]);
  const encoder = new TextEncoder();
  let { after } = options;
  let saidAt = performance.now();

  /** Where it stands, for who resumes later. */
  const sign = () => `id: ${after}\nevent: listening\ndata: {}\n\n`;

  /** The next text to write. */
  async function next(): Promise<string> {
    while (!signal.aborted) {
      if (after === undefined) {
        // What has been before is not of interest.
        after = await outbox.newest();
        return sign();
      }
      const { events, last, removed } = await outbox.read(after, perRead);
      const gap = comparePositions(removed, after) > 0
        ? `event: gap\ndata: ${JSON.stringify({ after, removed })}\n\n`
        : "";
      const text = gap +
        events.filter((event) => isWanted(event, wanted)).map((event) =>
          `id: ${event.position}\nevent: ${event.kind}\ndata: ${
            JSON.stringify(cloudEvent(event, source))
          }\n\n`
        ).join("");
      after = comparePositions(removed, last) > 0 ? removed : last;
      if (text !== "") {
        saidAt = performance.now();
        return text;
      }
      if (performance.now() - saidAt > quietMs) {
        saidAt = performance.now();
        return sign();
      }
      if (events.length < perRead) await pause(lookMs, signal);
    }
    return "";
  }

  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(encoder.encode(": listening\n\n")),
    async pull(controller) {
      let text: string;
      try {
        text = await next();
      } catch (error) {
        await pause(1000, signal);
        const message = redact(error instanceof Error ? error.message : String(error));
        text = `event: away\ndata: ${JSON.stringify({ message })}\n\n`;
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
