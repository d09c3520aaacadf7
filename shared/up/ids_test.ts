/** One list of ids at every door: what one takes, all take, and what one refuses, all refuse. */
import assert from "node:assert/strict";
import { localClient } from "@gru/shared/rpc/local";
import { RpcError } from "@gru/shared/rpc/contract";
import { spearContract } from "@gru/spear/contract";
import { isGroupId, isUserId } from "@gru/spear/identifiers";
import { statContract } from "@gru/stat/contract";
import { apiPath } from "../../minions/ui/api_path.ts";
import { dialects, TestClient } from "../../spear/test_client.ts";
import { upOnFreePorts } from "./up_testing.ts";

const [modern] = dialects;
if (modern === undefined) throw new Error("no dialect");

const astral = "\u{20000}";
const groups = {
  good: [
    ...["10", "010", "-10", "a/b", "a/../b", "...", "a.", ".a", "x:y@z", "__proto__", "日本", "é"],
    ...[
      "e\u0301",
      "हिन्दी",
      "ไทยที่",
      "עִבְרִית",
      "\u0928\u093f",
      "Ⅷ",
      "x".repeat(128),
      astral.repeat(128),
    ],
  ],
  bad: [
    ...[
      "",
      ".",
      "..",
      " ",
      "a b",
      " a",
      "a\n",
      "a*",
      "*",
      "a\u0000",
      "x".repeat(129),
      "a#b",
      "a?b",
    ],
    ...["\u{1F600}", "a\u200bb", "\u202ea", "a%2Fb", "a\\b"],
  ],
};
const users = {
  good: ["1", "7", "9007199254740993", "9223372036854775807", "9999999999999999999"],
  bad: ["", "0", "01", "-1", "+5", " 7", "1e3", "1.0", "0x7", "abc", "１", "7\n", "1".repeat(20)],
};

/** Whether each id of the list is taken at a door. */
type Door = (id: string) => boolean | Promise<boolean>;

async function agree(door: Door, { good, bad }: typeof groups, what: string): Promise<void> {
  for (const id of good) assert.equal(await door(id), true, `${what}: ${JSON.stringify(id)}`);
  for (const id of bad) assert.equal(await door(id), false, `${what}: ${JSON.stringify(id)}`);
}

async function called(call: Promise<unknown>): Promise<boolean> {
  try {
    await call;
    return true;
  } catch (error) {
    assert.ok(error instanceof RpcError && error.code === "invalid_argument", `${error}`);
    return false;
  }
}

Deno.test("every door takes the same ids", async (t) => {
  assert.ok(groups.good.every(isGroupId) && !groups.bad.some(isGroupId));
  assert.ok(users.good.every(isUserId) && !users.bad.some(isUserId));
  await using cluster = await upOnFreePorts();
  const { ticket, spear1, stat, minions } = cluster.addresses;
  await using client = await TestClient.connect(spear1, modern);
  assert.ok((await client.request("auth", { id: "500" })).success);
  const taken = async (event: string, argument: unknown) => {
    const { success, errorCode } = await client.request(event, argument);
    assert.ok(success || errorCode === 1003, `${event}: ${errorCode}`);
    return success;
  };
  const group = (id: string) => ({ userId: 500, subscribeGroups: [{ id }] });
  const http = (origin: string): Door => async (path) => {
    const response = await fetch(origin + path);
    const { status } = response;
    const text = await response.text();
    assert.ok(status === 200 || status === 400, `${path}: ${status} ${text}`);
    return status === 200;
  };

  await t.step("groups: the events of spear", async () => {
    await agree((id) => taken("subscribe", group(id)), groups, "subscribe");
    await agree((id) => taken("online", id), groups, "online");
    const toGroup = (id: string) => ({ type: 1, target: { id }, content: "x" });
    await agree((id) => taken("msg", toGroup(id)), groups, "msg");
    await agree((id) => taken("unsubscribe", group(id)), groups, "unsubscribe");
  });
  // The path of a URL cannot name these two, and an empty one is another route.
  const inPath = { ...groups, bad: groups.bad.filter((id) => !["", ".", ".."].includes(id)) };
  await t.step("groups: stat's HTTP API", async () => {
    const ask = http(stat);
    for (const route of ["", "/users", "/presence", "/history"]) {
      await agree((id) => ask(`/groups/${encodeURIComponent(id)}${route}`), inPath, route);
    }
    // Gru's route answers for any other text that nobody is in such a group.
    const once = { ...groups, bad: ["", ".", ".."] };
    await agree((id) => ask(`/getGroupStat?groupId=${encodeURIComponent(id)}`), once, "Gru's");
    await agree(
      async (id) => {
        const response = await fetch(`${stat}/listen?group=${encodeURIComponent(id)}`);
        await response.body?.cancel();
        return response.status === 200;
      },
      groups,
      "listen",
    );
  });
  await t.step("groups: paths that name . and .. answer for nothing else", async () => {
    for (const origin of [stat, `${minions}/api`]) {
      for (const name of [".", "..", "%2e", "%2E%2e", ".%2E"]) {
        const { hostname, port, pathname } = new URL(origin);
        const path = `${pathname === "/" ? "" : pathname}/groups/${name}/users?limit=1`;
        const connection = await Deno.connect({ hostname, port: Number(port) });
        const request =
          `GET ${path} HTTP/1.1\r\nhost: ${hostname}:${port}\r\nconnection: close\r\n\r\n`;
        await connection.write(new TextEncoder().encode(request));
        const answer = await new Response(connection.readable).text();
        assert.match(answer, /^HTTP\/1\.1 400 /, path);
      }
    }
  });
  await t.step("groups: the console", async () => {
    const ask = http(minions);
    await agree(
      (id) => {
        let path;
        try {
          path = apiPath("groups", id, "presence");
        } catch {
          return false;
        }
        return ask(path);
      },
      groups,
      "console",
    );
  });
  await t.step("users: the events of spear", async () => {
    await agree(
      async (id) => {
        await using other = await TestClient.connect(spear1, modern);
        return (await other.request("auth", { id })).success;
      },
      users,
      "auth",
    );
    await agree((id) => taken("msg", { type: 0, target: { id }, content: "x" }), users, "msg");
  });
  await t.step("users: ticket", async () => {
    await agree(
      async (userId) => {
        const query = new URLSearchParams({ userId, userName: "A", appType: "1", token1: "x" });
        const { success, errorCode } = await (await fetch(`${ticket}/ticket?${query}`)).json();
        assert.ok(success || errorCode === 710, `${errorCode}`);
        return success;
      },
      users,
      "GET",
    );
    await agree(
      async (userId) => {
        const response = await fetch(`${ticket}/ticket`, {
          method: "POST",
          headers: { authorization: "Bearer x" },
          body: JSON.stringify({ userId, userName: "A", appType: "1" }),
        });
        const { success, errorCode } = await response.json();
        assert.ok(success || (response.status === 400 && errorCode === 710), `${response.status}`);
        return success === true;
      },
      users,
      "POST",
    );
  });
  await t.step("users: stat's HTTP API", async () => {
    const ask = http(stat);
    const bad = users.bad.filter((id) => id !== "");
    await agree((id) => ask(`/users/${encodeURIComponent(id)}`), { ...users, bad }, "users");
    await agree(
      async (fromId) => {
        const response = await fetch(`${stat}/groups/10/messages`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ content: "x", fromId }),
        });
        await response.body?.cancel();
        return response.status === 200;
        // 0 is the system.
      },
      { ...users, bad: users.bad.filter((id) => id !== "0") },
      "fromId",
    );
  });
});

Deno.test("the calls between programs take the same ids", async () => {
  const answers = new Proxy({}, {
    get: (_, method) => () =>
      ({
        connectionsOfGroup: { connections: 0 },
        connectionsOfUser: { connections: [] },
        kickGroup: { connections: 0 },
        kickUser: { connections: 0 },
        publish: { id: "1", epoch: "e", seq: 1 },
        usersOfGroup: { userIds: [] },
        nodesOfUser: { nodes: [] },
      })[method as string],
  });
  // deno-lint-ignore no-explicit-any
  const spear = localClient(spearContract, answers as any).any;
  // deno-lint-ignore no-explicit-any
  const stat = localClient(statContract, answers as any).any;
  type Target = Parameters<typeof spear.publish>[0]["target"];
  const publish = (target: Target) => spear.publish({ target, content: "x", fromId: "0" });
  await agree((groupId) => called(spear.connectionsOfGroup({ groupId })), groups, "connections");
  await agree((groupId) => called(spear.kickGroup({ groupId, reason: "" })), groups, "kick");
  await agree((id) => called(publish({ kind: "group", id })), groups, "publish");
  await agree((groupId) => called(stat.usersOfGroup({ groupId })), groups, "usersOfGroup");
  await agree((userId) => called(spear.connectionsOfUser({ userId })), users, "connections");
  await agree((userId) => called(spear.kickUser({ userId, reason: "" })), users, "kick");
  await agree((id) => called(publish({ kind: "user", id })), users, "publish");
  await agree((userId) => called(stat.nodesOfUser({ userId })), users, "nodesOfUser");
});
