/**
 * The main job, played by two users on two nodes: what every cluster must do, whatever it is made of. Spoken as the wire has it, not
 * by the client library: it holds for old clients also, and sees each answer and event as it is.
 */
import assert from "node:assert/strict";
import { waitFor } from "@gru/shared/testing/harness";
import { type Dialect, type Json, TestClient } from "../../spear/test_client.ts";

export interface Ticket {
  readonly time: number;
  readonly addr: string;
  readonly name: string;
  readonly token: string;
  readonly backupNodes: readonly { readonly addr: string; readonly name: string }[];
}

export async function askTicket(ticketUrl: string, userId: number): Promise<Ticket> {
  const query = `userId=${userId}&userName=user${userId}&appType=1&token1=t`;
  const response = await fetch(`${ticketUrl}/ticket?${query}`);
  const answer = await response.json();
  assert.equal(answer.errorCode, 0, JSON.stringify(answer));
  return answer.data;
}

/** The first two users from `from` on whom ticket sends to different nodes. */
export async function usersOnTwoNodes(ticketUrl: string, from: number): Promise<[number, number]> {
  const { name } = await askTicket(ticketUrl, from);
  for (let userId = from + 1; userId < from + 100; userId++) {
    if ((await askTicket(ticketUrl, userId)).name !== name) return [from, userId];
  }
  throw new Error(`ticket sends users ${from} to ${from + 99} to ${name} all`);
}

/** Ticket, connection, `auth`: as a client comes in. */
export async function enter(
  ticketUrl: string,
  userId: number,
  dialect: Dialect,
): Promise<TestClient> {
  const { addr, token } = await askTicket(ticketUrl, userId);
  const client = await TestClient.connect(addr, dialect);
  const claims = { id: userId, name: `user${userId}`, appType: "1", token1: "t", token2: token };
  assertSuccess(await client.request("auth", claims));
  return client;
}

export function assertSuccess(result: Json): void {
  assert.equal(result.success, true, JSON.stringify(result));
  assert.equal(result.errorCode, 0);
  assert.equal(typeof result.msg, "string");
}

/** Two users of this dialect, on two nodes, do all that the contract lets them do. */
export async function playScenario(
  ticketUrl: string,
  dialect: Dialect,
  options: { readonly group: number; readonly firstUser: number },
): Promise<void> {
  const { group } = options;
  const [ann, bob] = await usersOnTwoNodes(ticketUrl, options.firstUser);
  await using anns = await enter(ticketUrl, ann, dialect);
  await using bobs = await enter(ticketUrl, bob, dialect);

  for (const [client, userId] of [[anns, ann], [bobs, bob]] as const) {
    const argument = { userId, subscribeGroups: [{ id: group, name: "g" }] };
    const result = await client.request("subscribe", argument);
    assertSuccess(result);
    assert.deepEqual(result.data.subscribeInfo, argument);
  }

  for (const [sender, fromId] of [[anns, ann], [bobs, bob]] as const) {
    const result = await sender.request("msg", {
      type: 1,
      target: { id: group, type: 1 },
      content: `to all, from ${fromId}`,
    });
    assertSuccess(result);
    // The sender is a member too, and all members are given the same.
    const [own, others] = await Promise.all([anns.next("msg"), bobs.next("msg")]);
    assert.deepEqual(own, others);
    assertMessage(own, { fromId, msgType: 1, target: group, content: `to all, from ${fromId}` });
    assert.equal(own.id, result.data.id);
    assert.equal(own.seq, result.data.seq);
  }

  for (
    const [sender, fromId, receiver, to] of [[anns, ann, bobs, bob], [
      bobs,
      bob,
      anns,
      ann,
    ]] as const
  ) {
    assertSuccess(
      await sender.request("msg", { type: 0, target: { id: to }, content: `only to ${to}` }),
    );
    assertMessage(await receiver.next("msg"), {
      fromId,
      msgType: 0,
      target: to,
      content: `only to ${to}`,
    });
  }

  await waitFor(async () => {
    const { data } = await anns.request("online", group);
    return data.userIds.length === 2 && [ann, bob].every((id) => data.userIds.includes(id));
  }, { what: `online(${group}) tells ${ann} and ${bob}` });

  assertSuccess(
    await bobs.request("unsubscribe", { userId: bob, subscribeGroups: [{ id: group }] }),
  );
  const left = await anns.request("msg", { type: 1, target: { id: group }, content: "alone" });
  assertSuccess(left);
  assert.equal((await anns.next("msg")).id, left.data.id);
  // Bob would have it by now: what is sent to him later arrives first.
  await anns.request("msg", { type: 0, target: { id: bob }, content: "end" });
  assert.equal((await bobs.next("msg")).content, "end");
  for (const client of [anns, bobs]) assert.deepEqual(client.pending("msg"), []);
}

function assertMessage(
  message: Json,
  expected: { fromId: number; msgType: number; target: number; content: string },
): void {
  const { id, createTime, expireTime, seq, epoch, ...rest } = message;
  assert.match(id, /^[1-9]\d{0,18}$/);
  for (const time of [createTime, expireTime]) assert.equal(Number.isSafeInteger(time), true);
  assert.equal(Number.isSafeInteger(seq) && seq > 0, true);
  assert.equal(typeof epoch, "string");
  const { target, ...others } = expected;
  assert.deepEqual(rest, { ...others, target: { id: target, type: -1 } });
}
