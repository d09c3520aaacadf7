/** What `/metrics` of each program says after some traffic, and that each defined metric is there. */
import assert from "node:assert/strict";
import { waitFor } from "@gru/shared/testing/harness";
import { authenticated } from "../../spear/spear_testing.ts";
import { allMetrics } from "./metrics_page.ts";
import { assertSuccess } from "./scenario.ts";
import { upOnFreePorts } from "./up_testing.ts";

Deno.test("/metrics of each program has what its page says, and counts what happened", async () => {
  await using cluster = await upOnFreePorts(() => undefined);
  const { addresses, inner } = cluster;
  const programs = {
    ...{ spear: inner.spear1, ticket: addresses.ticket, stat: addresses.stat },
    ...{ idgen: addresses.idgen, minions: addresses.minions },
  };
  type Program = keyof typeof programs;
  const read = async (program: Program) =>
    await (await fetch(`${programs[program]}/metrics`)).text();
  /** Waits until the metric, without the label `node`, has this value. */
  const shows = (program: Program, series: string, expected: number) =>
    waitFor(async () => {
      const lines = (await read(program)).split("\n").map((line) =>
        line.replace(/node="\w+",?/, "").replace(",}", "}").replace("{}", "")
      );
      const line = lines.find((line) => line.startsWith(`${series} `));
      return Number(line?.slice(series.length)) === expected;
    }, { what: `${program} to show ${series} ${expected}` });

  await using ann = await authenticated(addresses.spear1, 1);
  const bob = await authenticated(addresses.spear1, 2);
  for (const [userId, client] of [[1, ann], [2, bob]] as const) {
    const subscribeGroups = [{ id: 10 }];
    assertSuccess(await client.request("subscribe", { userId, subscribeGroups }));
  }
  assertSuccess(await ann.request("msg", { type: 1, target: { id: 10 }, content: "hello" }));
  assert.equal((await ann.request("msg", { type: 7, target: { id: 10 } })).errorCode, 1003);
  assert.equal((await ann.request("no such event", {})).success, false);
  const position = { epoch: "an epoch of the past", seq: 1 };
  const again = [{ id: 10, since: position }];
  await ann.request("subscribe", { userId: 1, subscribeGroups: again });

  await shows("spear", "gru_spear_connections", 2);
  await shows("spear", "gru_spear_users", 2);
  await shows("spear", "gru_spear_groups", 1);
  await shows("spear", 'gru_spear_messages_total{result="accepted"}', 1);
  await shows("spear", 'gru_spear_messages_total{result="refused"}', 1);
  await shows("spear", "gru_spear_publish_seconds_count", 1);
  await shows("spear", "gru_spear_delivery_seconds_count", 1);
  await shows("spear", 'gru_spear_events_total{event="auth",code="0"}', 2);
  await shows("spear", 'gru_spear_events_total{event="msg",code="1003"}', 1);
  await shows("spear", 'gru_spear_events_total{event="other",code="1002"}', 1);
  await shows("spear", 'gru_spear_recoveries_total{recovered="false"}', 1);
  await shows("spear", "gru_spear_broker_connected", 1);
  await bob[Symbol.asyncDispose]();
  await shows("spear", 'gru_spear_disconnects_total{reason="client"}', 1);

  await (await fetch(`${addresses.ticket}/ticket?userId=1&userName=Ann&appType=1&token1=any`)).body
    ?.cancel();
  await (await fetch(`${addresses.ticket}/ticket?userId=`)).body?.cancel();
  await shows("ticket", 'gru_ticket_tickets_total{code="0"}', 1);
  await shows("ticket", "gru_ticket_seconds_count", 2);
  await shows("ticket", "gru_ticket_nodes", 2);

  const kick = { method: "POST", body: "{}", headers: { "content-type": "application/json" } };
  await (await fetch(`${addresses.stat}/users/1/kick`, kick)).body?.cancel();
  await shows("stat", 'gru_stat_commands_total{command="POST /users/:userId/kick",result="ok"}', 1);
  await shows("spear", 'gru_spear_disconnects_total{reason="kicked"}', 1);

  const [[, common] = ["", {}], ...own] = allMetrics;
  for (const [program, metrics] of own) {
    const text = await read(program as Program);
    const named = text.matchAll(/^# TYPE (\w+) (\w+)$/gm).map(([, name, type]) =>
      `${name} ${type}`
    );
    const defined = Object.entries({ ...metrics, ...common })
      // idgen calls nobody, and ticket is called by nobody.
      .filter(([name]) => !name.startsWith("gru_rpc_"))
      .map(([name, { type }]) => `${name} ${type}`);
    const found = [...named].filter((name) => !name.startsWith("gru_rpc_"));
    assert.deepEqual(found.sort(), defined.sort(), program);
  }
});

Deno.test("the audit log says who commanded what on whom, over the API and in the console", async () => {
  await using cluster = await upOnFreePorts(() => undefined);
  const { stat, minions, spear1 } = cluster.addresses;
  await using _ann = await authenticated(spear1, 1);
  const send = async (address: string, path: string, body: object, headers = {}) => {
    const response = await fetch(address + path, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
    });
    await response.body?.cancel();
  };
  await send(stat, "/users/1/kick", { reason: "spam", banMs: 60_000 });
  await send(stat, "/users/1/messages", { content: "not in the log" });
  const inConsole = { "x-gru": "console" };
  await send(minions, "/api/users/1/messages", { content: "a secret" }, inConsole);
  await send(minions, "/api/nodes/spear9/drain", {}, inConsole);
  const lift = { method: "DELETE", headers: inConsole };
  await (await fetch(`${minions}/api/bans/user/1`, lift)).body?.cancel();
  const { entries } = await (await fetch(`${minions}/api/audit?limit=100`)).json();
  assert.deepEqual(
    entries.map(({ at: _, ...entry }: Record<string, unknown>) => Object.values(entry).join(", "))
      // Which programs came is in the log, too, in whatever order they did.
      .filter((line: string) => !line.startsWith("cluster, ")).toReversed(),
    [
      'api, anybody, 127.0.0.1, POST /users/:userId/kick, 1, {"reason":"spam","banMs":60000}, ok',
      'console, anybody, 127.0.0.1, POST /users/:userId/messages, 1, {"characters":8}, ok',
      "console, anybody, 127.0.0.1, POST /nodes/:node/drain, spear9, {}, 404",
      "console, anybody, 127.0.0.1, DELETE /bans/:kind/:id, user 1, , ok",
    ],
  );
});
