/** stat's HTTP API does what its own OpenAPI document says, route by route; the routes are read from the document. */
import assert from "node:assert/strict";
import { waitFor } from "@gru/shared/testing/harness";
import { z } from "zod";
import { dialects, type Json, TestClient } from "../../spear/test_client.ts";
import { upOnFreePorts } from "./up_testing.ts";

const [modern] = dialects;
if (modern === undefined) throw new Error("no dialect");
const key = "test-key";

interface Operation {
  readonly method: string;
  readonly path: string;
  readonly parameters: readonly {
    readonly name: string;
    readonly in: "path" | "query" | "header";
    readonly required?: boolean;
    readonly schema: Json;
  }[];
  /** JSON Schema. */
  readonly body: Json | undefined;
  readonly answer: Json | undefined;
}

/** Everything that the document refers to, put in its place. */
function inlined(value: Json, document: Json): Json {
  if (Array.isArray(value)) return value.map((one) => inlined(one, document));
  if (typeof value !== "object" || value === null) return value;
  if (typeof value.$ref === "string") {
    const path: string[] = value.$ref.split("/").slice(1);
    return inlined(path.reduce((at, part) => at[part], document), document);
  }
  return Object.fromEntries(
    Object.entries(value).map(([name, one]) => [name, inlined(one, document)]),
  );
}

async function operationsOf(api: string): Promise<Operation[]> {
  const document = await (await fetch(`${api}/openapi.json`)).json();
  assert.equal(document.openapi, "3.1.0");
  const { paths } = inlined(document, document);
  const found = Object.entries<Json>(paths).flatMap(([path, methods]) =>
    Object.entries<Json>(methods).map(([method, operation]): Operation => {
      assert.ok(operation.summary && operation.tags.length === 1, `${method} ${path} is described`);
      assert.deepEqual(operation.security, [{ apiKey: [] }]);
      const failure = operation.responses[401].content["application/json"].schema;
      assert.deepEqual(failure.properties.error.required, ["code", "message"]);
      return {
        method: method.toUpperCase(),
        path,
        parameters: operation.parameters ?? [],
        body: operation.requestBody?.content["application/json"].schema,
        answer: operation.responses[200].content["application/json"]?.schema,
      };
    })
  );
  // What empties a node or lifts a ban comes when the others have been seen.
  const rank = ({ path, method }: Operation) =>
    path.endsWith("/drain") ? 3 : method === "DELETE" ? 2 : path.endsWith("/kick") ? 1 : 0;
  return found.sort((a, b) => rank(a) - rank(b));
}

const examples: Readonly<Record<string, string>> = {
  ...{ node: "spear1", groupId: "10", userId: "5", kind: "user", id: "5" },
  ...{ connectionId: "spear1.5.x.1", name: "crm" },
};

const queries: Readonly<Record<string, string>> = {
  "/listen": "?group=10",
  "/hooks/{name}/replay": "?from=1",
};

const minimalBodies: Readonly<Record<string, object>> = {
  "/messages": { content: "hi", groupIds: ["10"] },
  "/presence": { userIds: ["5"] },
  "/users/{userId}/mute": { muteMs: 60_000 },
  "/groups/{groupId}/mute": { muteMs: 60_000 },
  "/users/{userId}/groups/{groupId}/mute": { muteMs: 60_000 },
};

interface Call {
  readonly path?: Readonly<Record<string, string>>;
  readonly query?: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

function call(api: string, { method, path, body }: Operation, given: Call = {}): Promise<Response> {
  const filled = path.replaceAll(
    /\{(\w+)\}/g,
    (_, name) => encodeURIComponent({ ...examples, ...given.path }[name] ?? ""),
  );
  const query = given.query ?? queries[path] ?? "";
  const minimal = minimalBodies[path] ??
    (path.endsWith("/messages") || path === "/broadcast" ? { content: "hi" } : {});
  return fetch(`${api}${filled}${query}`, {
    method,
    headers: {
      authorization: `Bearer ${key}`,
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...given.headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(given.body ?? minimal) }),
  });
}

async function assertError(response: Response, status: number, says: RegExp): Promise<void> {
  const answer = await response.json();
  assert.equal(response.status, status, JSON.stringify(answer));
  assert.deepEqual(Object.keys(answer), ["error"]);
  assert.deepEqual(Object.keys(answer.error), ["code", "message"]);
  assert.match(answer.error.message, says);
}

/** Values that a schema does not allow. */
function badValues(schema: Json): unknown[] {
  const type = schema.type ?? schema.anyOf?.[0]?.type;
  if (type === "integer") return [-1, 1.5, "x", null];
  if (type === "string") return [7, null, {}, "y".repeat((schema.maxLength ?? 10_000) + 1)];
  return [7];
}

Deno.test("every route of the OpenAPI document answers and refuses as the document says", async (t) => {
  await using cluster = await upOnFreePorts((name) =>
    name === "GRU_STAT_API_KEY" ? key : undefined
  );
  const { stat: api, spear2 } = cluster.addresses;
  const operations = await operationsOf(api);
  assert.ok(operations.length >= 26);

  await using _client = await (async () => {
    const client = await TestClient.connect(spear2, modern);
    await client.request("auth", { id: 5 });
    await client.request("subscribe", { userId: 5, subscribeGroups: [{ id: 10 }, { id: "a/b" }] });
    return client;
  })();
  const ask = async (path: string): Promise<Json> =>
    await (await fetch(`${api}${path}`, { headers: { authorization: `Bearer ${key}` } })).json();
  await waitFor(async () => (await ask("/groups/a%2Fb")).nodes.length === 1);

  for (const operation of operations) {
    const { method, path, parameters } = operation;
    await t.step(`${method} ${path}`, async () => {
      for (const authorization of ["", "Bearer wrong"]) {
        const refused = await call(api, operation, { headers: { authorization } });
        await assertError(refused, 401, /^Authorization: /);
      }
      await assertError(await call(api, { ...operation, method: "PATCH" }), 405, /only /);

      for (const { name, in: place, required, schema } of parameters) {
        if (place === "path") {
          const bad = name === "connectionId" || name === "id" || name === "name" || name === "node"
            ? "x".repeat(300)
            : "a b";
          const refused = await call(api, operation, { path: { [name]: bad } });
          await assertError(refused, 400, new RegExp(`^${name}: `));
        } else if (place === "query" && name !== "user") {
          const bad = schema.type === "integer"
            ? "1.5"
            : name === "group"
            ? "a b"
            : "x".repeat(300);
          const refused = await call(api, operation, { query: `?${name}=${bad}` });
          await assertError(refused, 400, new RegExp(`^${name}`));
        } else if (place === "header") {
          const refused = await call(api, operation, { headers: { [name]: "k".repeat(300) } });
          await assertError(refused, 400, new RegExp(`^${name}: `));
        }
        if (place === "path") assert.equal(required, true);
      }

      for (const [name, schema] of Object.entries<Json>(operation.body?.properties ?? {})) {
        const base = minimalBodies[path] ??
          (operation.body.required?.includes("content") ? { content: "hi" } : {});
        for (const bad of badValues(schema)) {
          const refused = await call(api, operation, { body: { ...base, [name]: bad } });
          await assertError(refused, 400, new RegExp(`^${name}: `));
        }
        await assertError(
          await call(api, operation, { body: { ...base, other: 1 } }),
          400,
          /^other: unknown field/,
        );
      }
      for (const name of operation.body?.required ?? []) {
        await assertError(await call(api, operation, { body: {} }), 400, new RegExp(`^${name}: `));
      }

      if (path === "/connections/{connectionId}/kick") {
        const gone = await call(api, operation, { path: { connectionId: "spear1.5.x.1" } });
        return await assertError(gone, 404, /no connection spear1\.5\.x\.1/);
      }
      if (path === "/bans/{kind}/{id}") {
        await assertError(await call(api, operation), 404, /user 5 is not banned/);
        const kick = operations.find((one) => one.path === "/users/{userId}/kick");
        assert.ok(kick);
        await (await call(api, kick, { body: { banMs: 60_000 } })).body?.cancel();
      }
      if (parameters.some(({ name, in: place }) => name === "node" && place === "path")) {
        const unknown = await call(api, operation, { path: { node: "spear9" } });
        await assertError(unknown, 404, /no live spear is called spear9/);
      }
      let given: Call = {};
      if (path === "/hooks/{name}/replay") {
        // This cluster has no endpoints.
        const answer = await call(api, operation);
        return await assertError(answer, 404, /there is no endpoint crm/);
      }
      if (path === "/messages/{id}") {
        await assertError(await call(api, operation), 404, /no node remembers the message 5/);
        const publish = operations.find((one) => one.path === "/groups/{groupId}/messages");
        assert.ok(publish);
        const { id } = await (await call(api, publish)).json();
        given = { path: { id } };
      }
      const response = await call(api, operation, given);
      assert.equal(response.status, 200);
      if (operation.answer === undefined) {
        assert.match(response.headers.get("content-type") ?? "", /text\/event-stream/);
        return await response.body?.cancel();
      }
      const answer = await response.json();
      const fits = z.fromJSONSchema(operation.answer).safeParse(answer);
      assert.ok(fits.success, `${fits.error} in ${JSON.stringify(answer)}`);
    });
  }
});
