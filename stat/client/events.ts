/** The events of the cluster, for business systems that have no endpoint for hooks. */
import { pause } from "@gru/shared/pause";
import { EventSourceParserStream } from "eventsource-parser/stream";
import type { Kind, KindData } from "./kinds.ts";

/** A CloudEvent. Events of one `subject` (`user:5`, `group:10`, `node:spear1`) come in their order. */
export type GruEvent = {
  [K in Kind]: {
    readonly specversion: "1.0";
    /** Where it stands: later events have larger ones. The same when it comes again. */
    readonly id: string;
    readonly source: string;
    readonly type: K;
    readonly subject: string;
    /** ISO 8601. */
    readonly time: string;
    readonly data: KindData[K];
  };
}[Kind];

export interface EventsOptions {
  /** Where stat's HTTP API is, e.g. `http://127.0.0.1:50000`. */
  readonly url: string;
  readonly apiKey?: string | undefined;
  /** Default: all. */
  readonly kinds?: readonly Kind[];
  /** Ids of groups and users, `prefix*` allowed. Default: all. */
  readonly match?: readonly string[];
  /** The `id` of an event: what came after it is given first; `0-0`: all that is kept. Default: from now on. */
  readonly after?: string;
  /** Ends it. */
  readonly signal?: AbortSignal;
}

/** stat refuses the stream, or has no longer kept what was to be read next. Then `after` is where it goes on. */
export class EventsError extends Error {
  override readonly name = "EventsError";
  readonly after: string | undefined;

  constructor(message: string, after?: string) {
    super(message);
    this.after = after;
  }
}

const againMs = 1000;

/**
 * Each event once, also over lost connections and other stats behind the same address.
 * @throws {EventsError} see there. Only a signal ends it otherwise.
 */
export async function* events(options: EventsOptions): AsyncGenerator<GruEvent, void> {
  const { signal } = options;
  let { after } = options;
  while (!signal?.aborted) {
    try {
      for await (const { id, event, data } of await opened(options, after)) {
        if (event === "gap") {
          const { removed } = JSON.parse(data);
          throw new EventsError(`events after ${after} are no longer kept`, removed);
        }
        if (id === undefined) continue;
        // Before it is given: who ends the iteration has had it.
        after = id;
        if (event !== "listening") yield JSON.parse(data);
      }
    } catch (error) {
      if (error instanceof EventsError) throw error;
    }
    await pause(againMs, signal);
  }
}

/** The server-sent events of one answer. Rejects when stat is away. @throws {EventsError} */
async function opened(
  { url, apiKey, kinds, match, signal }: EventsOptions,
  after: string | undefined,
): Promise<AsyncIterable<ServerSentEvent>> {
  const query = new URLSearchParams({
    ...(kinds === undefined ? {} : { events: kinds.join() }),
    ...(match === undefined ? {} : { match: match.join() }),
  });
  const response = await fetch(`${url.replace(/\/$/, "")}/events?${query}`, {
    headers: {
      ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }),
      ...(after === undefined ? {} : { "last-event-id": after }),
    },
    ...(signal === undefined ? {} : { signal }),
  });
  const { status, body } = response;
  if (status >= 500 || status === 429) {
    await body?.cancel();
    throw new Error(`HTTP ${status}`);
  }
  if (!response.ok || body === null) {
    const { error } = await response.json().catch(() => ({}));
    throw new EventsError(error?.message ?? `HTTP ${status}`);
  }
  return serverSentEvents(body);
}

export interface ServerSentEvent {
  readonly id?: string | undefined;
  readonly event?: string | undefined;
  readonly data: string;
}

/** @param body of an answer of the type `text/event-stream` */
export function serverSentEvents(
  body: ReadableStream<Uint8Array>,
): AsyncIterable<ServerSentEvent> {
  return body.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>)
    .pipeThrough(new EventSourceParserStream());
}
