/** The routes of the HTTP API that change nothing. */
import { type OpenAPIHono, z } from "@hono/zod-openapi";
import type { TargetOfCommand } from "@gru/spear/contract";
import { answers, guarded, streams } from "./api_answers.ts";
import * as shape from "./api_schemas.ts";
import { listenStream } from "./listen.ts";
import type { Operations } from "./operations.ts";
import { lastHour, ratesOf, totalsOf } from "./rates.ts";
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
      responses: answers(shape.nodeInfo, "As it reported last"),
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
    ...{ method: "get", path: "/groups/{groupId}", tags: ["Groups"], summary: "Where is a group" },
    request: { params: inGroup },
    responses: answers(shape.groupPlace, "The nodes that it has users on"),
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
      summary: "How many are in a group now",
      request: { params: inGroup },
      responses: answers(shape.presence, "Users and connections, by node"),
    },
    "state",
    "spears",
  ),
  historyOfGroup: guarded({
    ...{ method: "get", path: "/groups/{groupId}/history", tags: ["Groups"] },
    summary: "The messages that are kept of a group",
    request: { params: inGroup, query: shape.historyQuery },
    responses: answers(shape.history, "The newest ones, ascending"),
  }, "spears"),
  users: guarded({
    ...{ method: "get", path: "/users", tags: ["Users"], summary: "All users who are online" },
    request: { query: shape.pageQuery },
    responses: answers(shape.userPage, "In the order of their ids, as text"),
  }, "state"),
  user: guarded(
    {
      ...{ method: "get", path: "/users/{userId}", tags: ["Users"], summary: "Where is a user" },
      request: { params: inUser },
      responses: answers(shape.userPlace, "Nodes and connections, since when"),
    },
    "state",
    "spears",
  ),
  historyOfUser: guarded({
    ...{ method: "get", path: "/users/{userId}/history", tags: ["Users"] },
    summary: "The messages that are kept for a user",
    request: { params: inUser, query: shape.historyQuery },
    responses: answers(shape.history, "The newest ones, ascending"),
  }, "spears"),
  bans: guarded({
    ...{ method: "get", path: "/bans", tags: ["Bans"], summary: "Bans that hold" },
    responses: answers(shape.banList, "The earliest to end first"),
  }, "state"),
  totals: guarded({
    ...{ method: "get", path: "/totals", tags: ["Cluster"], summary: "The whole cluster now" },
    responses: answers(shape.totals, "Sums over the live nodes, and over the last hour"),
  }, "state"),
  rates: guarded({
    ...{ method: "get", path: "/rates", tags: ["Cluster"], summary: "The last hour, in steps" },
    request: { query: z.object({ node: shape.node.optional() }) },
    responses: answers(shape.rates, "Columns, ready to be drawn"),
  }, "state"),
  listen: guarded({
    ...{ method: "get", path: "/listen", tags: ["Cluster"] },
    summary: "Messages of groups and users as they flow",
    description: "Server-sent events: `listening` { node }, `messages` { seen, messages: " +
      "[{ target, message }] } and `away` { message }. When more messages flow than the reader " +
      "takes, the newest are given, and `seen` says how many there were. " +
      "Who listens is no member and is not counted.",
    request: { query: shape.listenQuery },
    responses: streams("Until the reader goes"),
  }),
} as const;

export function addReadRoutes(app: OpenAPIHono, operations: Operations, closing: AbortSignal) {
  const { store } = operations;

  /** One more than asked for tells whether there is a next page. */
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
  app.openapi(routes.bans, async (c) => c.json({ bans: await store.bans(Date.now()) }, 200));
  app.openapi(routes.totals, async (c) => {
    const [counts, samples] = await Promise.all([store.counts(operations.live), lastHour(store)]);
    return c.json(totalsOf(counts, samples), 200);
  });
  app.openapi(
    routes.rates,
    async (c) => c.json(ratesOf(await lastHour(store), c.req.valid("query").node), 200),
  );
  app.openapi(routes.listen, (c) => {
    const { group, user } = c.req.valid("query");
    const targets = [
      ...group.map((id) => ({ kind: "group", id }) as const),
      ...user.map((id) => ({ kind: "user", id }) as const),
    ];
    return listenStream({ operations, targets, closing }) as never;
  });
}
