/**
 * Spans of a share of the messages, for OpenTelemetry as Deno exports it (`OTEL_DENO=true`).
 *
 * The trace is made from the message's place (target, epoch, seq). So each node knows by itself which messages are traced and to
 * which trace its spans belong, and nothing travels with the message. All spans have one parent, which nobody sends.
 */
import { createHash } from "node:crypto";
import { type Attributes, type Context, context, SpanKind, trace } from "@opentelemetry/api";
import type { SubmitOptions } from "./session/submit.ts";
import type { Position, Target } from "./wire.ts";

interface Place extends Position {
  readonly target: Target;
}

/** As in a `traceparent`: the parent of all spans was sampled. */
const sampled = 1;

export class MessageTracing {
  readonly #tracer = trace.getTracer("gru");
  readonly #share: number;
  readonly #node: string;

  /** @param share of the messages, 0–1 @param node the name in the spans' attributes */
  constructor(share: number, node: string) {
    this.#share = share;
    this.#node = node;
  }

  /** Told when the broker has accepted a message of this node. */
  accepted(
    place: Place,
    { askedAt, idAt }: Parameters<SubmitOptions["onAccepted"]>[3],
    id: string,
    fromId: string,
  ): void {
    if (!isTraced(place, this.#share)) return;
    const now = performance.now();
    const parent = parentOf(place);
    const attributes = { "gru.message.id": id, "gru.message.from": fromId };
    this.#span("gru accept", SpanKind.SERVER, place, parent, [askedAt, now], attributes);
    this.#span("gru id", SpanKind.CLIENT, place, parent, [askedAt, idAt]);
    this.#span("gru publish", SpanKind.PRODUCER, place, parent, [idAt, now]);
  }

  /**
   * Told when a message has been given to its members here, which began at `startedAt`. `whenWritten` calls back when it
   * has been written to all that can take it.
   */
  given(
    place: Place,
    startedAt: number,
    members: number,
    whenWritten: (callback: () => void) => void,
  ): void {
    if (!isTraced(place, this.#share)) return;
    const givenAt = performance.now();
    const parent = parentOf(place);
    const attributes = { "gru.connections": members };
    this.#span("gru receive", SpanKind.CONSUMER, place, parent, [startedAt, givenAt], attributes);
    whenWritten(() => {
      const now = performance.now();
      this.#span("gru write", SpanKind.INTERNAL, place, parent, [givenAt, now], attributes);
    });
  }

  #span(
    name: string,
    kind: SpanKind,
    { target, epoch, seq }: Place,
    parent: Context,
    [from, to]: readonly [number, number],
    more: Attributes = {},
  ): void {
    const place = { "gru.target": target, "gru.epoch": epoch, "gru.seq": seq };
    const attributes = { "gru.node": this.#node, ...place, ...more };
    const startTime = performance.timeOrigin + from;
    this.#tracer.startSpan(name, { kind, startTime, attributes }, parent)
      .end(performance.timeOrigin + to);
  }
}

/** The same on every node. */
function isTraced(place: Place, share: number): boolean {
  if (share >= 1) return true;
  let hash = place.seq;
  for (const text of [place.target, place.epoch]) {
    for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  }
  // The low bits of neighbours differ and the high ones do not: mixed once more.
  hash = Math.imul(hash ^ hash >>> 16, 0x85ebca6b);
  return (hash ^ hash >>> 13) >>> 0 < share * 2 ** 32;
}

function parentOf({ target, epoch, seq }: Place): Context {
  const hash = createHash("sha256").update(`${target} ${epoch} ${seq}`).digest("hex");
  const [traceId, spanId] = [hash.slice(0, 32), hash.slice(32, 48)];
  return trace.setSpanContext(context.active(), {
    ...{ traceId, spanId, traceFlags: sampled, isRemote: true },
  });
}
