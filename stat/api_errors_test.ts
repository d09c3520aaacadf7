/**
 * Every error that the OpenAPI document names for a route can occur on it, in the one shape, and no other error can.
 */
import assert from "node:assert/strict";
import { logger } from "@gru/shared/log";
import type { Instance } from "@gru/shared/registry/registry";
import type { RpcClient } from "@gru/shared/rpc/client";
import { RpcError } from "@gru/shared/rpc/contract";
import { memberId, type SpearContract } from "@gru/spear/contract";
import { hooksSchema } from "./hooks/config.ts";
import { createApi } from "./api.ts";
import { Operations } from "./operations.ts";
import { MemoryStore } from "./store_memory.ts";
import type { StatStore } from "./store.ts";

const spear1: Instance = {
  ...{
    service: "spear",
    name: "spear1",
    addresses: { rpc: "http://127.0.0.1:1" },
    startedAt: 0,
    meta: {},
  },
};

/** Every call ends with this error. */
function failing(error: Error): unknown {
  const parts = ["outbox", "bans", "mutes"];
  return new Proxy({}, {
    get: (_, name) => parts.includes(String(name)) ? failing(error) : () => Promise.reject(error),
  });
}

/** stat's API on a store where user 5 is in group 10 on spear1, and on spears that give empty answers. */
async function api(broken: { readonly store?: Error; readonly spears?: Error } = {}) {
  const memory = new MemoryStore();
  await memory.apply({
    ...{ node: "spear1", session: "s", version: 1, full: true, connections: 1 },
    load: { acceptedPerSecond: 0, deliveredPerSecond: 0, memoryBytes: 0 },
    users: { joined: ["5"], left: [] },
    groups: [{ groupId: "10", joined: ["5"], left: [] }],
  }, 60_000);
  const muted = [["user", "5"], ["group", "10"], ["member", memberId("10", "5")]] as const;
  for (const [kind, id] of muted) await memory.mutes.set({ kind, id, reason: "", ms: 60_000 });
  const store = broken.store === undefined ? memory : failing(broken.store) as StatStore;
  const spear = broken.spears === undefined
    ? new Proxy({}, { get: () => () => Promise.resolve({ connections: 0 }) })
    : failing(broken.spears);
  const spears = { any: spear, at: () => spear } as unknown as RpcClient<SpearContract>;
  return createApi({
    operations: new Operations({ store, spears, instances: () => [spear1] }),
    apiKey: "key",
    closing: AbortSignal.abort(),
    auditMs: 86_400_000,
    hooks: hooksSchema.parse({
      secret: `whsec_${btoa("a secret of at least 24 bytes")}`,
      endpoints: [{ name: "crm", url: "https://crm.example/hooks" }],
    }),
    log: logger("stat"),
  });
}

interface Documented {
  readonly parameters?: readonly { readonly in: string; readonly name: string }[];
  readonly requestBody?: unknown;
  readonly responses: Readonly<Record<string, unknown>>;
}

const good: Readonly<Record<string, string>> = {
  ...{ node: "spear1", groupId: "10", userId: "5", connectionId: "spear1.5.x.1", kind: "user" },
  ...{ id: "5", name: "crm" },
};

const queries: Readonly<Record<string, string>> = {
  "/listen": "?group=10",
  "/hooks/{name}/replay": "?from=1",
};

type Change = {
  readonly names?: Readonly<Record<string, string>>;
  readonly query?: string;
  readonly headers?: Readonly<Record<string, string | undefined>>;
  readonly body?: string;
};

function requestOf(method: string, path: string, { requestBody }: Documented, change: Change) {
  const names = { ...good, ...change.names };
  const filled = path.replaceAll(/\{(\w+)\}/g, (_, name) => encodeURIComponent(names[name] ?? ""));
  const many: Readonly<Record<string, string>> = {
    "/messages": '{"content":"hi","groupIds":["10"]}',
    "/presence": '{"userIds":["5"]}',
  };
  const content = many[path] ?? (path.endsWith("/mute") ? '{"muteMs":1000}' : undefined) ??
    (path.endsWith("/messages") || path === "/broadcast" ? '{"content":"hi"}' : "{}");
  const text = change.body ??
    (path.endsWith("/kick") && !path.startsWith("/connections") ? '{"banMs":1000}' : content);
  const headers = {
    authorization: "Bearer key",
    ...(requestBody === undefined
      ? {}
      : { "content-type": "application/json", "content-length": `${text.length}` }),
    ...change.headers,
  };
  return {
    path: filled + (change.query ?? (queries[path] ?? "")),
    init: {
      method: method.toUpperCase(),
      headers: Object.entries(headers).flatMap(([name, value]): [string, string][] =>
        value === undefined ? [] : [[name, value]]
      ),
      ...(requestBody === undefined ? {} : { body: text }),
    },
  };
}

/** The codes that spears may answer with. */
const codesOfSpears = [
  ...["overloaded", "unavailable", "deadline_exceeded", "unknown", "internal"] as const,
];

const document = await (await (await api()).request("/openapi.json")).json();
const routes = Object.entries<Record<string, Documented>>(document.paths).flatMap((
  [path, methods],
) => Object.entries(methods).map(([method, operation]) => ({ path, method, operation })));

for (const { path, method, operation } of routes) {
  Deno.test(`${method.toUpperCase()} ${path} fails only with the errors that its document names, and with each of them`, async () => {
    const codes = new Map<number, Set<string>>();
    async function provoke(change: Change, broken: Parameters<typeof api>[0] = {}): Promise<void> {
      const { path: url, init } = requestOf(method, path, operation, change);
      const response = await (await api(broken)).request(url, init);
      if (response.status < 400) return void await response.body?.cancel();
      const { error, ...rest } = await response.json();
      assert.deepEqual(rest, {});
      assert.deepEqual(Object.keys(error), ["code", "message"]);
      assert.notEqual(error.message, "");
      codes.set(response.status, (codes.get(response.status) ?? new Set()).add(error.code));
    }

    await provoke({ headers: { authorization: undefined } });
    for (const { in: place, name } of operation.parameters ?? []) {
      if (place === "path") await provoke({ names: { [name]: "x".repeat(300) } });
      if (place === "query") await provoke({ query: `?${name}=${"x".repeat(300)}` });
      if (place === "header") await provoke({ headers: { [name]: "x".repeat(300) } });
    }
    await provoke({
      names: {
        ...{ node: "spear9", connectionId: "spear9.5.x.1", id: "6", name: "nobody" },
        ...{ userId: "6", groupId: "11" },
      },
    });
    if (operation.requestBody !== undefined) {
      await provoke({ body: '{"unknown":1}' });
      await provoke({ headers: { "content-length": undefined } });
      await provoke({ body: `"${"x".repeat(4_200_000)}"` });
      await provoke({ headers: { "content-type": "text/plain" } });
    }
    for (const code of codesOfSpears) {
      await provoke({}, { spears: new RpcError(code, `spear: ${code}`) });
    }
    await provoke({}, { store: new RpcError("unavailable", "Redis: out of reach") });
    await provoke({}, { store: new Error("a secret detail") });

    const expected: Record<number, string> = {
      ...{ 401: "unauthenticated", 404: "not_found", 411: "length_required", 413: "too_large" },
      ...{ 415: "invalid_argument", 429: "overloaded", 500: "internal", 503: "unavailable" },
      ...{ 400: "invalid_argument", 504: "deadline_exceeded,unknown" },
    };
    const documented = Object.keys(operation.responses).map(Number).filter((one) => one !== 200);
    assert.deepEqual(
      [...codes].map(([status, found]) => [status, [...found].join()]).sort(),
      documented.map((status) => [status, expected[status]]).sort(),
    );
  });
}
