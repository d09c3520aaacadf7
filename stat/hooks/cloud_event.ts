/** An event as it is sent: CloudEvents 1.0, https://cloudevents.io. */
import type { HookEvent } from "./event.ts";

export const batchType = "application/cloudevents-batch+json";

/** `id` stays the same when an event is sent again. */
export function cloudEvent({ position, kind, subject, timeMs, data }: HookEvent, source: string) {
  return {
    specversion: "1.0",
    id: position,
    source,
    type: kind,
    subject,
    time: new Date(timeMs).toISOString(),
    datacontenttype: "application/json",
    data,
  };
}
