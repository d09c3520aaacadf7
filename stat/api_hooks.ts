/** The routes of the HTTP API about events: how far the endpoints are, sending again, and the events themselves. */
import { type OpenAPIHono, z } from "@hono/zod-openapi";
import { RpcError } from "@gru/shared/rpc/contract";
import { isPattern } from "@gru/ticket/token";
import { answers, guarded, streams } from "./api_answers.ts";
import * as shape from "./api_schemas.ts";
import { hooksAreOn, type HooksConfig } from "./hooks/config.ts";
import { type EventKind, eventKinds } from "./hooks/event.ts";
import { eventStream } from "./hooks/event_stream.ts";
import { beginning, type Outbox } from "./hooks/outbox.ts";

export interface HookRoutesOptions {
  readonly outbox: Outbox;
  readonly hooks: HooksConfig;
  /** Ends streams. */
  readonly closing: AbortSignal;
}

const position = z.string().regex(
  /^\d{1,15}-\d{1,15}$/,
  "expected <ms>-<n>, as the id of an event",
);
const kinds = z.enum(eventKinds as [EventKind, ...EventKind[]]);
const list = (text: string | undefined) => text === undefined ? undefined : text.split(",");

const routes = {
  hooks: guarded({
    ...{ method: "get", path: "/hooks", tags: ["Hooks"], summary: "How far each endpoint is" },
    responses: answers(shape.hookList, "As of a second ago"),
  }, "state"),
  replay: guarded(
    {
      ...{ method: "post", path: "/hooks/{name}/replay", tags: ["Hooks"] },
      summary: "Send again",
      description:
        "The endpoint gets again what came after that moment, as far as it is kept. Events have the ids that they had.",
      request: {
        params: z.object({ name: z.string().min(1).max(64) }),
        query: z.object({
          from: z.union([position, z.string().regex(/^\d{1,15}$/)]).openapi({
            description: "Unix milliseconds, or the id of an event",
            example: "1790000000000",
          }),
        }),
      },
      responses: answers(z.object({ name: z.string(), from: z.string() }), "It begins soon"),
    },
    "state",
    "existence",
  ),
  events: guarded({
    ...{ method: "get", path: "/events", tags: ["Hooks"], summary: "Events as they happen" },
    description:
      "Server-sent events: `event` is the kind, `id` its position, `data` a CloudEvent; `listening` only says where the stream stands. With `last-event-id` it goes on behind that event; `gap` says that events behind it are no longer kept.",
    request: {
      query: z.object({
        events: z.string().max(1000).optional()
          .openapi({ description: "Kinds, comma list; default: all", example: "user.online" }),
        match: z.string().max(4000).optional().openapi({
          description: "Ids of groups and users, comma list, `prefix*` allowed; default: all",
        }),
        from: position.optional()
          .openapi({ description: "As last-event-id; 0-0: everything that is kept" }),
      }),
      headers: z.object({ "last-event-id": position.optional() }),
    },
    responses: streams("Until the caller ends it"),
  }),
};

export function addHookRoutes(app: OpenAPIHono, { outbox, hooks, closing }: HookRoutesOptions) {
  app.openapi(routes.hooks, async (c) => {
    const { states, sender } = await outbox.states();
    const none = {
      state: "new",
      position: beginning,
      delivered: 0,
      failed: 0,
      waiting: 0,
      lagMs: 0,
    };
    return c.json({
      enabled: hooksAreOn(hooks),
      sender,
      endpoints: hooks.endpoints.map(({ name, url, events = eventKinds }) => ({
        ...{ name, url, events: [...events] },
        ...(states.get(name) ?? none as typeof none & { readonly state: "new" }),
      })),
    }, 200);
  });
  app.openapi(routes.replay, async (c) => {
    const { name } = c.req.valid("param");
    if (!hooks.endpoints.some((one) => one.name === name)) {
      throw new RpcError("not_found", `name: there is no endpoint ${name}`);
    }
    const { from } = c.req.valid("query");
    // What happened in that very millisecond is sent, too.
    const after = from.includes("-") ? from : `${Math.max(0, Number(from) - 1)}-999999999`;
    await outbox.replay(name, after);
    return c.json({ name, from: after }, 200);
  });
  app.openapi(routes.events, (c) => {
    const { events, match, from } = c.req.valid("query");
    if (!hooksAreOn(hooks)) {
      const message = "hooks: are off; hooks.enabled of the profile makes events";
      throw new RpcError("invalid_argument", message);
    }
    const wantedKinds = list(events)?.map((kind) => {
      const known = kinds.safeParse(kind);
      if (known.success) return known.data;
      throw new RpcError("invalid_argument", `events: unknown kind, is "${kind.slice(0, 100)}"`);
    });
    const patterns = list(match)?.map((pattern) => {
      if (isPattern(pattern)) return pattern;
      throw new RpcError(
        "invalid_argument",
        `match: expected an id, "prefix*" or "*", is "${String(pattern).slice(0, 100)}"`,
      );
    });
    return eventStream({
      ...{ outbox, source: hooks.source, closing },
      wanted: { events: wantedKinds, match: patterns },
      after: c.req.valid("header")["last-event-id"] ?? from,
    }) as never;
  });
}
