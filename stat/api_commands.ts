/** The routes of the HTTP API that change something. */
import { type OpenAPIHono, z } from "@hono/zod-openapi";
import { RpcError } from "@gru/shared/rpc/contract";
import { answers, body, guarded } from "./api_answers.ts";
import * as shape from "./api_schemas.ts";
import type { Operations } from "./operations.ts";

const inGroup = z.object({ groupId: shape.groupId });
const inUser = z.object({ userId: shape.userId });
const inUserAndGroup = inUser.extend({ groupId: shape.groupId });
const clearing =
  "Numbers go on. A client that returns for what it missed is told that some of it does not come. Hooks do not hear of messages that they had not read yet: `hooks.gap`.";
const touched = "The number of affected connections";

const routes = {
  toGroup: guarded({
    ...{ method: "post", path: "/groups/{groupId}/messages", tags: ["Groups"] },
    summary: "Publish to a group",
    request: { params: inGroup, headers: shape.idempotencyHeader, body: body(shape.outgoing) },
    responses: answers(shape.position, "Accepted: it will reach every member"),
  }, "spears"),
  toUser: guarded({
    ...{ method: "post", path: "/users/{userId}/messages", tags: ["Users"] },
    summary: "Publish to a user",
    request: { params: inUser, headers: shape.idempotencyHeader, body: body(shape.outgoing) },
    responses: answers(shape.position, "Accepted: it will reach all connections of the user"),
  }, "spears"),
  toMany: guarded({
    ...{ method: "post", path: "/messages", tags: ["Cluster"] },
    summary: "Publish to many groups and users",
    description:
      "Each target has a result of its own. A repetition with the same idempotency-key sends only what was not sent.",
    request: { headers: shape.idempotencyHeader, body: body(shape.outgoingToMany) },
    responses: answers(shape.resultsOfMany, "One for each target"),
  }),
  clearGroup: guarded({
    ...{ method: "delete", path: "/groups/{groupId}/history", tags: ["Groups"] },
    summary: "Remove the stored messages of a group",
    description: clearing,
    request: { params: inGroup },
    responses: answers(shape.cleared, "They are gone"),
  }, "spears"),
  clearUser: guarded({
    ...{ method: "delete", path: "/users/{userId}/history", tags: ["Users"] },
    summary: "Remove the stored messages of a user",
    description: clearing,
    request: { params: inUser },
    responses: answers(shape.cleared, "They are gone"),
  }, "spears"),
  presenceOfMany: guarded({
    ...{ method: "post", path: "/presence", tags: ["Users"] },
    summary: "Which of many users are online, and where",
    request: { body: body(shape.presenceRequest) },
    responses: answers(shape.presenceOfMany, "In the order of the request"),
  }, "state"),
  broadcast: guarded({
    ...{
      method: "post",
      path: "/broadcast",
      tags: ["Cluster"],
      summary: "Send a message to every connection",
    },
    description: "To all present connections. It is not stored for later ones.",
    request: { body: body(shape.outgoing) },
    responses: answers(shape.broadcastResult, touched),
  }, "spears"),
  putUser: guarded({
    ...{ method: "put", path: "/users/{userId}/groups/{groupId}", tags: ["Users"] },
    summary: "Put a user into a group",
    description:
      "All present connections become members, whatever their rights are; each gets the event `subscribed`.",
    request: { params: inUserAndGroup },
    responses: answers(shape.touched, touched),
  }, "spears"),
  takeUser: guarded({
    ...{ method: "delete", path: "/users/{userId}/groups/{groupId}", tags: ["Users"] },
    summary: "Take a user out of a group",
    description: "Each connection that was a member gets the event `unsubscribed`.",
    request: { params: inUserAndGroup },
    responses: answers(shape.touched, touched),
  }, "spears"),
  kickUser: guarded(
    {
      ...{ method: "post", path: "/users/{userId}/kick", tags: ["Users"] },
      summary: "Close all connections of a user",
      request: { params: inUser, body: body(shape.kickWithBan) },
      responses: answers(shape.touched, touched),
    },
    "state",
    "spears",
  ),
  kickGroup: guarded(
    {
      ...{ method: "post", path: "/groups/{groupId}/kick", tags: ["Groups"] },
      summary: "Remove all members, or one user, from a group",
      request: { params: inGroup, body: body(shape.kickFromGroup) },
      responses: answers(shape.touched, touched),
    },
    "state",
    "spears",
  ),
  kickConnection: guarded(
    {
      ...{ method: "post", path: "/connections/{connectionId}/kick", tags: ["Users"] },
      summary: "Close one connection",
      request: {
        params: z.object({ connectionId: z.string().min(1).max(256) }),
        body: body(shape.kick),
      },
      responses: answers(shape.touched, touched),
    },
    "spears",
    "existence",
  ),
  drain: guarded(
    {
      ...{ method: "post", path: "/nodes/{node}/drain", tags: ["Nodes"], summary: "Drain a node" },
      description:
        "Its clients move to other nodes. It gets no new clients until this is undone, or it is restarted.",
      request: { params: z.object({ node: shape.node }), body: body(shape.drainRequest) },
      responses: answers(shape.drainResult, "The drain has begun"),
    },
    "spears",
    "existence",
  ),
  undrain: guarded(
    {
      ...{
        method: "delete",
        path: "/nodes/{node}/drain",
        tags: ["Nodes"],
        summary: "Undo a drain",
      },
      description:
        "The node gets new clients again. Clients that were asked to move still go. Without a drain nothing happens.",
      request: { params: z.object({ node: shape.node }) },
      responses: answers(shape.undrained, "The node takes clients"),
    },
    "spears",
    "existence",
  ),
  rebalance: guarded({
    ...{ method: "post", path: "/rebalance", tags: ["Cluster"] },
    summary: "Give nodes with too few clients their share again",
    description:
      "Clients are asked to move until the loads fit. Repeated while it runs, it only changes the rate. Clients that do not know the event move stay.",
    request: { body: body(shape.rebalanceRequest) },
    responses: answers(shape.rebalanceStatus, "It has begun"),
  }, "spears"),
  lift: guarded(
    {
      ...{ method: "delete", path: "/bans/{kind}/{id}", tags: ["Bans"], summary: "Lift a ban" },
      description: "All nodes know it within a few seconds.",
      request: { params: z.object({ kind: shape.banKind, id: z.string().min(1).max(256) }) },
      responses: answers(
        z.object({ lifted: z.literal(true) }).openapi("Lifted"),
        "The ban is lifted",
      ),
    },
    "state",
    "existence",
  ),
} as const;

/** Who may say nothing, and where. */
const mutings = [
  { whom: "a user", path: "/users/{userId}/mute", params: inUser },
  { whom: "a group", path: "/groups/{groupId}/mute", params: inGroup },
  {
    whom: "a user in a group",
    path: "/users/{userId}/groups/{groupId}/mute",
    params: inUserAndGroup,
  },
] as const;

function addMuteRoutes(app: OpenAPIHono, operations: Operations): void {
  for (const { whom, path, params } of mutings) {
    const mute = guarded(
      {
        ...{ method: "put", path, tags: ["Bans"], summary: `Mute ${whom}` },
        description:
          "Messages of clients are refused until then, with the reason. Business systems still publish. Again: replaces the time and the reason.",
        request: { params, body: body(shape.mute) },
        responses: answers(shape.muted, touched),
      },
      "state",
      "spears",
    );
    const unmute = guarded(
      {
        ...{ method: "delete", path, tags: ["Bans"], summary: `Lift the mute of ${whom}` },
        request: { params },
        responses: answers(shape.touched, touched),
      },
      "state",
      "spears",
      "existence",
    );
    app.openapi(mute, async (c) => {
      const { reason, muteMs } = c.req.valid("json");
      return c.json(await operations.mute(c.req.valid("param"), reason, muteMs), 200);
    });
    app.openapi(
      unmute,
      async (c) => c.json(await operations.unmute(c.req.valid("param")), 200),
    );
  }
}

export function addCommandRoutes(app: OpenAPIHono, operations: Operations) {
  addMuteRoutes(app, operations);
  app.openapi(routes.toGroup, async (c) => {
    const target = { kind: "group", id: c.req.valid("param").groupId } as const;
    const key = c.req.valid("header")["idempotency-key"];
    return c.json(await operations.publish(target, c.req.valid("json"), key), 200);
  });
  app.openapi(routes.toUser, async (c) => {
    const target = { kind: "user", id: c.req.valid("param").userId } as const;
    const key = c.req.valid("header")["idempotency-key"];
    return c.json(await operations.publish(target, c.req.valid("json"), key), 200);
  });
  app.openapi(routes.toMany, async (c) => {
    const key = c.req.valid("header")["idempotency-key"];
    const { groupIds, userIds, ...message } = c.req.valid("json");
    const targets = { groupIds, userIds };
    return c.json({ results: await operations.publishToMany(targets, message, key) }, 200);
  });
  app.openapi(routes.clearGroup, async (c) => {
    const target = { kind: "group", id: c.req.valid("param").groupId } as const;
    return c.json(await operations.clearHistory(target), 200);
  });
  app.openapi(routes.clearUser, async (c) => {
    const target = { kind: "user", id: c.req.valid("param").userId } as const;
    return c.json(await operations.clearHistory(target), 200);
  });
  app.openapi(routes.presenceOfMany, async (c) => {
    const { userIds } = c.req.valid("json");
    return c.json({ users: await operations.presenceOfMany(userIds) }, 200);
  });
  app.openapi(
    routes.broadcast,
    async (c) => c.json(await operations.broadcast(c.req.valid("json")), 200),
  );
  app.openapi(routes.putUser, async (c) => {
    const { userId, groupId } = c.req.valid("param");
    return c.json(await operations.putUser(userId, groupId), 200);
  });
  app.openapi(routes.takeUser, async (c) => {
    const { userId, groupId } = c.req.valid("param");
    return c.json(await operations.takeUser(userId, groupId), 200);
  });
  app.openapi(routes.kickUser, async (c) => {
    const { reason, banMs } = c.req.valid("json");
    return c.json(await operations.kickUser(c.req.valid("param").userId, reason, banMs), 200);
  });
  app.openapi(
    routes.kickGroup,
    async (c) =>
      c.json(await operations.kickGroup(c.req.valid("param").groupId, c.req.valid("json")), 200),
  );
  app.openapi(routes.kickConnection, async (c) => {
    const { connectionId } = c.req.valid("param");
    const { reason } = c.req.valid("json");
    return c.json(await operations.kickConnection(connectionId, reason), 200);
  });
  app.openapi(routes.drain, async (c) => {
    const { overMs } = c.req.valid("json");
    return c.json(await operations.drain(c.req.valid("param").node, overMs), 200);
  });
  app.openapi(
    routes.undrain,
    async (c) => c.json(await operations.undrain(c.req.valid("param").node), 200),
  );
  app.openapi(routes.rebalance, async (c) => {
    const { perSecond } = c.req.valid("json");
    return c.json(await operations.rebalance(perSecond), 200);
  });
  app.openapi(routes.lift, async (c) => {
    const { kind, id } = c.req.valid("param");
    const lifted = await operations.store.bans.lift(kind, id);
    if (lifted !== undefined) return c.json({ lifted: true as const }, 200);
    throw new RpcError("not_found", `id: ${kind} ${id} is not banned`);
  });
}
