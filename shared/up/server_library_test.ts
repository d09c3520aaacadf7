/** `@gru/server` against a whole cluster, and its npm package as people install it. */
import assert from "node:assert/strict";
import {
  api,
  type Decision,
  events,
  EventsError,
  HookError,
  type KindData,
  verifyDecision,
  verifyHook,
} from "@gru/server";
import { slowTest, waitFor } from "@gru/shared/testing/harness";
import type { Question } from "@gru/shared/webhooks/decisions";
import { signWebhook } from "@gru/shared/webhooks/signature";
import { npmPackage, pathsModule } from "../../stat/build_client.ts";
import type { EventData, EventKind } from "../../stat/hooks/event.ts";
import { dialects, TestClient } from "../../spear/test_client.ts";
import { assertSuccess } from "./scenario.ts";
import { upOnFreePorts } from "./up_testing.ts";

const [modern] = dialects;
const apiKey = "a key of the API";
const secrets = `whsec_${btoa("a secret of at least 24 bytes")}`;

/** Compiles only where the two are the same. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true
  : never;
type Plain<T> = { readonly [K in keyof T]: T[K] };
const kindsAreSame: { [K in EventKind]: Same<Plain<EventData<K>>, Plain<KindData[K]>> } = {
  ...{ "user.online": true, "user.offline": true, "group.occupied": true, "group.vacated": true },
  ...{ "member.joined": true, "member.left": true, "message.accepted": true },
  ...{ "message.unattended": true, "user.kicked": true, "user.banned": true },
  ...{ "node.joined": true, "node.left": true, "node.died": true, "hooks.gap": true },
};

function request(headers: Record<string, string>, body: string): Request {
  return new Request("https://shop.example/hooks", { method: "POST", headers, body });
}

Deno.test("verifyHook gives the events of a signed request once, and refuses what is forged, copied or old", async () => {
  assert.ok(kindsAreSame);
  const body = JSON.stringify([{ type: "user.online", data: { userId: "5" } }]);
  const nowS = Math.floor(Date.now() / 1000);
  const signed = (id: string, timestampS = nowS) => signWebhook(secrets, { id, timestampS, body });
  const [first] = await verifyHook(request(signed("a"), body), secrets);
  assert.ok(first?.type === "user.online" && first.data.userId === "5");
  // As a sender does that got no answer.
  await verifyHook(request(signed("a", nowS + 1), body), secrets);
  const wrong: [RegExp, Request][] = [
    [/has come before/, request(signed("a"), body)],
    [/none fits/, request(signed("b"), body.replace("5", "6"))],
    [/none fits/, request({ ...signed("c"), "webhook-id": "d" }, body)],
    [/too old/, request(signed("e", nowS - 301), body)],
    [/in the future/, request(signed("f", nowS + 310), body)],
    [/webhook-signature: missing/, request({ "webhook-id": "g", "webhook-timestamp": "1" }, body)],
  ];
  for (const [message, one] of wrong) {
    await assert.rejects(
      verifyHook(one, secrets),
      (error) => error instanceof HookError && message.test(error.message),
    );
  }
  const question: Question & Decision = { decision: "subscribe", userId: "5", groupId: "10" };
  const asked = JSON.stringify(question);
  const headers = signWebhook(secrets, { id: "q", timestampS: nowS, body: asked });
  assert.deepEqual(await verifyDecision(request(headers, asked), secrets), question);
});

Deno.test("a business system publishes, asks, and hears events, by the library", async () => {
  await using cluster = await upOnFreePorts((name) =>
    name === "GRU_STAT_API_KEY" ? apiKey : undefined
  );
  const { stat: url, spear1 } = cluster.addresses;
  assert.ok(modern);
  await using ann = await TestClient.connect(spear1, modern);
  assertSuccess(await ann.request("auth", { id: 1 }));
  assertSuccess(await ann.request("subscribe", { userId: 1, subscribeGroups: [{ id: 10 }] }));

  const gru = api({ url, apiKey });
  const { data } = await gru.POST("/groups/{groupId}/messages", {
    params: { path: { groupId: "10" }, header: { "idempotency-key": "order-7" } },
    body: { content: "hello" },
  });
  assert.equal((await ann.next("msg")).id, data?.id);
  await waitFor(async () => {
    const answer = await gru.GET("/groups/{groupId}/users", {
      params: { path: { groupId: "10" } },
    });
    return answer.data?.users[0]?.userId === "1";
  });
  const { error, response } = await api({ url }).GET("/nodes");
  assert.deepEqual([response.status, error?.error.code], [401, "unauthenticated"]);

  const wrongKey = events({ url, apiKey: "wrong" });
  await assert.rejects(wrongKey.next(), EventsError);
});

Deno.test("events go on over lost connections, each once, and end when what is next is no longer kept", async () => {
  const asked: (string | null)[] = [];
  const position = (n: number) => `${n}-0`;
  const event = (n: number) =>
    `id: ${position(n)}\nevent: user.online\ndata: {"id":"${position(n)}"}\n\n`;
  const answers = [
    `id: 1-0\nevent: listening\ndata: {}\n\n`,
    undefined,
    event(2) + event(3) + event(4).slice(0, 20),
    event(4) + `event: gap\ndata: {"after":"4-0","removed":"9-0"}\n\n`,
  ];
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    ({ headers }) => {
      const answer = answers[asked.length];
      asked.push(headers.get("last-event-id"));
      return answer === undefined ? new Response("", { status: 503 }) : new Response(answer);
    },
  );
  const came: string[] = [];
  const all = events({ url: `http://127.0.0.1:${server.addr.port}` });
  const ended = await (async () => {
    for await (const { id } of all) came.push(id);
  })().catch((error) => error);
  assert.deepEqual(came, ["2-0", "3-0", "4-0"]);
  assert.deepEqual(asked, [null, "1-0", "1-0", "3-0"]);
  assert.ok(ended instanceof EventsError && ended.after === "9-0");
});

slowTest("the committed types of the API are those of its document", async () => {
  const committed = Deno.readTextFileSync(new URL("../../stat/client/paths.ts", import.meta.url));
  assert.ok(committed === await pathsModule(), "paths.ts is out of date: deno task server:build");
});

const application = `
import { api, token1, verifyHook } from "@gru/server";
const [url, apiKey] = process.argv.slice(2);
const { data } = await api({ url, apiKey }).GET("/nodes");
const token = await token1({ key: "a secret", user: 1 });
const refused = await verifyHook(new Request("http://x", { method: "POST", body: "x" }), "${secrets}")
  .catch((error) => error.name);
console.log(JSON.stringify([data.nodes.length, token.split(".").length, refused]));
`;

slowTest("the package, packed and installed in an empty project, works in Node.js", async () => {
  await using cluster = await upOnFreePorts((name) =>
    name === "GRU_STAT_API_KEY" ? apiKey : undefined
  );
  const all = await Deno.makeTempDir({ prefix: "gru_server_" });
  try {
    const [source, project] = [`${all}/source`, `${all}/project`];
    for (const path of [source, project]) await Deno.mkdir(path);
    const files = await npmPackage();
    for (const [name, text] of files) Deno.writeTextFileSync(`${source}/${name}`, text);
    const packed = (await run(source, "npm", "pack", "--silent", "--pack-destination", all)).trim();
    Deno.writeTextFileSync(`${project}/package.json`, '{ "type": "module" }');
    await run(project, "npm", "install", "--no-audit", "--no-fund", "--silent", `${all}/${packed}`);
    Deno.writeTextFileSync(`${project}/app.js`, application);
    const out = await run(project, "node", "app.js", cluster.addresses.stat, apiKey);
    assert.deepEqual(JSON.parse(out), [2, 3, "HookError"]);
    assert.doesNotMatch(files.get("index.d.ts") ?? "", /"@gru\/shared/);
  } finally {
    await Deno.remove(all, { recursive: true });
  }
});

/** What a program writes to standard output. It ends with an error when the program does. */
async function run(cwd: string, program: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, { args, cwd }).output();
  const [out, errors] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assert.ok(success, `${program} ${args.join(" ")}: ${out}${errors}`);
  return out ?? "";
}
