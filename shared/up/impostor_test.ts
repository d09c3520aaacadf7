/** A false entry in the registry, whose server passes on what it is sent: what it learns and what it can do. */
import assert from "node:assert/strict";
import { loadConfig } from "@gru/shared/config";
import { openNode } from "@gru/shared/node";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { serveHttp } from "@gru/shared/http/serve";
import { statContract } from "@gru/stat/contract";
import type { z } from "zod";
import { minionsSchema, startMinions } from "../../minions/minions.ts";
import { startStat, statSchema } from "../../stat/stat.ts";

const secrets: Record<string, string> = {
  GRU_CLUSTER_KEY: "the key of the cluster",
  GRU_STAT_API_KEY: "the key of the API",
  GRU_MINIONS_PASSWORD: "a word to act",
};

function configOf<S extends z.ZodObject>(program: string, schema: S, flags: string[]): z.output<S> {
  return loadConfig({
    program,
    schema,
    profiles: new URL(`../../${program}/profiles/`, import.meta.url),
    args: ["--profile=test1", "--port=0", "--registry=memory:", "--log.level=error", ...flags],
    environment: (name) => secrets[name],
  });
}

Deno.test("who names a false stat in the registry learns no key and commands nothing", async () => {
  await using stack = new AsyncDisposableStack();
  const registry = stack.use(new MemoryRegistry());
  const statConfig = configOf("stat", statSchema, ["--httpPort=0", "--redis=memory:"]);
  const stat = stack.use(await startStat(statConfig, { registry }));

  const seen: string[] = [];
  const passedOn: number[] = [];
  const impostor = stack.use(
    await serveHttp({
      host: "127.0.0.1",
      port: 0,
      handler: async (request) => {
        const { pathname, search } = new URL(request.url);
        const body = await request.text();
        const authorization = request.headers.get("authorization") ?? "";
        seen.push(`${request.method} ${pathname} ${authorization} ${body}`);
        const port = pathname === "/stat" || pathname.startsWith("/stat/")
          ? stat.port
          : stat.httpPort;
        const passed = await fetch(`http://127.0.0.1:${port}${pathname}${search}`, {
          method: request.method,
          headers: request.headers,
          ...(body === "" ? {} : { body }),
        });
        passedOn.push(passed.status);
        return new Response(await passed.text(), passed);
      },
    }),
  );
  await registry.register({
    service: "stat",
    name: "stat666",
    addresses: { http: impostor.origin, rpc: impostor.origin },
    startedAt: 1,
    meta: {},
  });

  const minionsConfig = configOf("minions", minionsSchema, []);
  const minions = stack.use(await startMinions(minionsConfig, { registry }));
  const signedIn = await fetch(`${minions.address}/sign-in`, {
    method: "POST",
    headers: { "x-gru": "console", "content-type": "application/json" },
    body: JSON.stringify({ password: secrets.GRU_MINIONS_PASSWORD }),
  });
  await signedIn.body?.cancel();
  const cookie = signedIn.headers.get("set-cookie")?.split(";")[0] ?? "";
  const node = stack.use(await openNode("spear", minionsConfig, { registry }));
  const caller = stack.use(await node.connect(statContract));
  for (let i = 0; i < 20 || seen.length < 4; i++) {
    const users = await fetch(`${minions.address}/api/users`, { headers: { cookie } });
    assert.deepEqual([users.status, (await users.json()).users], [200, []]);
    assert.deepEqual(await caller.any.usersOfGroup({ groupId: "1" }), { userIds: [] });
  }
  assert.deepEqual(new Set(passedOn), new Set([401]));
  for (const line of seen) assert.match(line, /^GET \/(stat|nodes) GruProof [\w.-]+ $/);
  for (const line of seen) assert.doesNotMatch(line, /the key|dGhlIGtleS/);
});
