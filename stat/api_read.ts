/** The routes of the HTTP API that change nothing. */
import { type OpenAPIHono, z } from "@hono/zod-openapi";
import type { TargetOfCommand } from "@gru/spear/contract";
import { answers, guarded, streams } from "./api_answers.ts";
import * as shape from "./api_schemas.ts";
import { listenStream } from "./listen.ts";
import type { Operations } from "./operations.ts";
import { lastHour, ratesOf, totalsOf } from "./rates.ts";
import { trailOf } from "./trail.ts";
import type { Found, Listing, LiveNodes } from "./store.ts";

type PageQuery = z.output<typeof shape.pageQuery>;

const inNode = z.object({ node: shape.node });
const inGroup = z.object({ groupId: shape.groupId });
const inUser = z.object({ userId: shape.userId });

const routes = {
  nodes: guarded({
    ...{ method: "get", path: "/nodes", tags: ["Nodes"], summary: "All live spears" },
    responses: answers(shape.nodeList, "By name"),
  }, "state"),
  node: guarded(
    {
      ...{ method: "get", path: "/nodes/{node}", tags: ["Nodes"], summary: "One spear" },
      request: { params: inNode },
      responses: answers(shape.nodeInfo, "As last reported"),
    },
    "state",
    "existence",
  ),
  groupsOfNode: guarded(
    {
      ...{ method: "get", path: "/nodes/{node}/groups", tags: ["Nodes"] },
      summary: "Groups that have users on a node",
      request: { params: inNode, query: shape.pageQuery },
      responses: answers(shape.groupPage, "In the order of their ids, as text"),
    },
    "state",
    "existence",
  ),
  usersOfNode: guarded(
    {
      ...{
        method: "get",
        path: "/nodes/{node}/users",
        tags: ["Nodes"],
        summary: "Users on a node",
      },
      request: { params: inNode, query: shape.pageQuery },
      responses: answers(shape.userPage, "In the order of their ids, as text"),
    },
    "state",
    "existence",
  ),
  groups: guarded({
    ...{ method: "get", path: "/groups", tags: ["Groups"], summary: "All groups with users" },
    request: { query: shape.pageQuery },
    responses: answers(shape.groupPage, "In the order of their ids, as text"),
  }, "state"),
  group: guarded({
    ...{
      method: "get",
      path: "/groups/{groupId}",
      tags: ["Groups"],
      summary: "The nodes of a group",
    },
    request: { params: inGroup },
    responses: answers(shape.groupPlace, "The nodes with users of the group"),
  }, "state"),
  usersOfGroup: guarded({
    ...{ method: "get", path: "/groups/{groupId}/users", tags: ["Groups"] },
    summary: "Users of a group",
    request: { params: inGroup, query: shape.pageQuery },
    responses: answers(shape.userPage, "In the order of their ids, as text"),
  }, "state"),
  presence: guarded(
    {
      ...{ method: "get", path: "/groups/{groupId}/presence", tags: ["Groups"] },
      summary: "The number of users in a group now",
      request: { params: inGroup },
      responses: answers(shape.presence, "Users and connections, by node"),
    },
    "state",
    "spears",
  ),
  historyOfGroup: guarded({
    ...{ method: "get", path: "/groups/{groupId}/history", tags: ["Groups"] },
    summary: "The stored messages of a group",
    request: { params: inGroup, query: shape.historyQuery },
    responses: answers(shape.history, "The newest ones, ascending"),
  }, "spears"),
  users: guarded({
    ...{ method: "get", path: "/users", tags: ["Users"], summary: "All users online" },
    request: { query: shape.pageQuery },
    responses: answers(shape.userPage, "In the order of their ids, as text"),
  }, "state"),
  user: guarded(
    {
      ...{
        method: "get",
        path: "/users/{userId}",
        tags: ["Users"],
        summary: "The nodes and connections of a user",
      },
      request: { params: inUser },
      responses: answers(shape.userPlace, "Nodes and connections, with their start times"),
    },
    "state",
    "spears",
  ),
  historyOfUser: guarded({
    ...{ method: "get", path: "/users/{userId}/history", tags: ["Users"] },
    summary: "The stored messages of a user",
    request: { params: inUser, query: shape.historyQuery },
    responses: answers(shape.history, "The newest ones, ascending"),
  }, "spears"),
  bans: guarded({
    ...{ method: "get", path: "/bans", tags: ["Bans"], summary: "The present bans" },
    responses: answers(shape.banList, "The earliest to end first"),
  }, "state"),
  mutes: guarded({
    ...{ method: "get", path: "/mutes", tags: ["Bans"], summary: "The present mutes" },
    responses: answers(shape.muteList, "The earliest to end first"),
  }, "state"),
  audit: guarded({
    ...{ method: "get", path: "/audit", tags: ["Cluster"], summary: "Who commanded what" },
    request: { query: shape.auditQuery },
    responses: answers(shape.auditLog, "The newest first"),
  }, "state"),
  totals: guarded({
    ...{ method: "get", path: "/totals", tags: ["Cluster"], summary: "The whole cluster now" },
    responses: answers(shape.totals, "Of all live nodes together, and of the last hour"),
  }, "state"),
  rates: guarded({
    ...{ method: "get", path: "/rates", tags: ["Cluster"], summary: "The last hour, in steps" },
    request: { query: z.object({ node: shape.node.optional() }) },
    responses: answers(shape.rates, "Columns, ready to be drawn"),
  }, "state"),
  trail: guarded(
    {
      ...{ method: "get", path: "/messages/{id}", tags: ["Cluster"] },
      summary: "The way of a message through the nodes",
      description: "Nodes remember the newest messages only (the key trailMessages of spear).",
      request: {
        params: z.object({ id: z.string().min(1).max(64) }),
        query: shape.trailQuery,
      },
      responses: answers(shape.trail, "When and where it was accepted, received and missed"),
    },
    "spears",
    "existence",
  ),
  rebalancing: guarded({
    ...{ method: "get", path: "/rebalance", tags: ["Cluster"] },
    summary: "How far the last rebalance is",
    responses: answers(shape.rebalanceStatus, "By node"),
  }, "spears"),
  canary: guarded({
    ...{ method: "get", path: "/canary", tags: ["Cluster"] },
    summary: "Whether messages come from every node to every node, and how fast",
    responses: answers(shape.canary, "By the node that hears, and the node that is heard"),
  }, "spears"),
  listen: guarded({
    ...{ method: "get", path: "/listen", tags: ["Cluster"] },
    summary: "A live stream of the messages of groups and users",
    description: "Server-sent events: `listening` { node }, `messages` { seen, messages: " +
      "[{ target, message }] } and `away` { message }. When there are more messages than the reader " +
      "can take, it gets the newest, and `seen` is the number of all. " +
      "A listener is not a member and is not counted.",
    request: { query: shape.listenQuery },
    responses: streams("Until the reader disconnects"),
  }),
} as const;

export function addReadRoutes(app: OpenAPIHono, operations: Operations, closing: AbortSignal) {
  const { store } = operations;

  /** One item more than requested shows whether there is a next page. */
  async function page(listing: Listing, live: LiveNodes, query: PageQuery) {
    const { search: prefix, cursor: after, limit } = query;
    const found = await store.page(listing, live, { prefix, after, limit: limit + 1 });
    const shown = found.slice(0, limit);
    return { found: shown, next: found.length > limit ? shown.at(-1)?.name ?? null : null };
  }
  async function groupPage(live: LiveNodes, query: PageQuery) {
    const { found, next } = await page({ of: "groups" }, live, query);
    return { groups: found.map(({ name, nodes }) => ({ groupId: name, nodes: [...nodes] })), next };
  }
  async function userPage(listing: Listing, live: LiveNodes, query: PageQuery) {
    const { found, next } = await page(listing, live, query);
    const user = ({ name, nodes }: Found) => ({
      userId: name,
      nodes: nodes.map(({ node }) => node),
    });
    return { users: found.map(user), next };
  }
  function history(target: TargetOfCommand, query: z.output<typeof shape.historyQuery>) {
    const { limit, before } = query;
    return operations.spears.any.history({
      target,
      limit,
      ...(before === undefined ? {} : { before }),
    });
  }

  app.openapi(routes.nodes, async (c) => c.json({ nodes: await operations.nodes() }, 200));
  app.openapi(routes.node, async (c) => {
    const { node } = c.req.valid("param");
    return c.json(await operations.node(node), 200);
  });
  app.openapi(routes.groupsOfNode, async (c) => {
    const live = operations.requireNode(c.req.valid("param").node);
    return c.json(await groupPage(live, c.req.valid("query")), 200);
  });
  app.openapi(routes.usersOfNode, async (c) => {
    const live = operations.requireNode(c.req.valid("param").node);
    return c.json(await userPage({ of: "users" }, live, c.req.valid("query")), 200);
  });
  app.openapi(
    routes.groups,
    async (c) => c.json(await groupPage(operations.live, c.req.valid("query")), 200),
  );
  app.openapi(routes.group, async (c) => {
    const { groupId } = c.req.valid("param");
    return c.json({ groupId, nodes: await store.nodesOfGroup(groupId, operations.live) }, 200);
  });
  app.openapi(routes.usersOfGroup, async (c) => {
    const { groupId } = c.req.valid("param");
    const listing = { of: "users of a group", groupId } as const;
    return c.json(await userPage(listing, operations.live, c.req.valid("query")), 200);
  });
  app.openapi(
    routes.presence,
    async (c) => c.json(await operations.presence(c.req.valid("param").groupId), 200),
  );
  app.openapi(routes.historyOfGroup, async (c) => {
    const target = { kind: "group", id: c.req.valid("param").groupId } as const;
    return c.json(await history(target, c.req.valid("query")), 200);
  });
  app.openapi(
    routes.users,
    async (c) =>
      c.json(await userPage({ of: "users" }, operations.live, c.req.valid("query")), 200),
  );
  app.openapi(
    routes.user,
    async (c) => c.json(await operations.placeOfUser(c.req.valid("param").userId), 200),
  );
  app.openapi(routes.historyOfUser, async (c) => {
    const target = { kind: "user", id: c.req.valid("param").userId } as const;
    return c.json(await history(target, c.req.valid("query")), 200);
  });
  app.openapi(routes.mutes, async (c) => c.json({ mutes: await operations.mutes() }, 200));
  app.openapi(routes.bans, async (c) => c.json({ bans: await operations.bans() }, 200));
  app.openapi(routes.audit, async (c) => {
    const { limit, before } = c.req.valid("query");
    return c.json({ entries: await store.audits(limit, before) }, 200);
  });
  app.openapi(routes.totals, async (c) => {
    const { live, distinct } = operations;
    const [counts, totals, samples] = await Promise.all([
      store.counts(live),
      distinct.of(live),
      lastHour(store),
    ]);
    return c.json(totalsOf(counts, totals, samples), 200);
  });
  app.openapi(
    routes.rates,
    async (c) => c.json(ratesOf(await lastHour(store), c.req.valid("query").node), 200),
  );
  app.openapi(routes.trail, async (c) => {
    const { group, user } = c.req.valid("query");
    const target = group !== undefined
      ? { kind: "group", id: group } as const
      : user !== undefined
      ? { kind: "user", id: user } as const
      : undefined;
    return c.json(await trailOf(operations, c.req.valid("param").id, target), 200);
  });
  app.openapi(
    routes.rebalancing,
    async (c) => c.json(await operations.rebalancing(), 200),
  );
  app.openapi(routes.canary, async (c) => c.json(await operations.canary(), 200));
  app.openapi(routes.listen, (c) => {
    const { group, user } = c.req.valid("query");
    const targets = [
      ...group.map((id) => ({ kind: "group", id }) as const),
      ...user.map((id) => ({ kind: "user", id }) as const),
    ];
    return listenStream({ operations, targets, closing }) as never;
  });
}
