/** Attacks by many at once, and by the slow. For tests. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { connect, type Socket } from "node:net";
import { waitFor } from "@gru/shared/testing/harness";
import type { Json, TestClient } from "../../spear/test_client.ts";
import { assertRefused, type Scene, secrets } from "./attack_scene.ts";
import { textFrame, throwAt, upgrade } from "./fuzz.ts";

export async function floodsOfTicket(scene: Scene): Promise<void> {
  const token1 = await scene.token1({ sub: `${scene.stranger()}` });
  // The program is told of one proxy, which here is us.
  const from = (address: string) => ({ "x-forwarded-for": `1.2.3.4, ${address}` });
  const counts = new Map<number, number>();
  for (let round = 0; round < 20; round++) {
    const answers = await Promise.all(
      Array.from({ length: 50 }, () => scene.post("a.b.c", from("10.9.9.9"))),
    );
    for (const { status } of answers) counts.set(status, (counts.get(status) ?? 0) + 1);
  }
  assert.ok((counts.get(429) ?? 0) > 500, JSON.stringify([...counts]));
  assert.equal((counts.get(401) ?? 0) + (counts.get(429) ?? 0), 1000);
  assert.equal((await scene.post(token1, from("10.9.9.8"))).status, 200);
  const byUser = await Promise.all(
    Array.from({ length: 60 }, (_, i) => scene.post(token1, from(`10.8.0.${i}`))),
  );
  assert.ok(byUser.some(({ status }) => status === 429));
  assert.equal(
    (await scene.post(await scene.token1({ sub: `${scene.stranger()}` }), from("10.9.9.8")))
      .status,
    200,
  );
}

/** More messages, false tokens and connections than a spear takes. */
export async function floodsOfSpear(scene: Scene): Promise<void> {
  const [address = ""] = [...scene.spears.values()].map(({ address }) => address);
  const userId = scene.stranger();
  const { client } = await scene.connect(address, userId, await scene.token2({ sub: `${userId}` }));
  await using honest = client;
  const send = (): Promise<Json> =>
    honest.request("msg", { type: 1, target: { id: 10 }, content: "x" });
  const began = performance.now();
  const results = await Promise.all(Array.from({ length: 900 }, send));
  const accepted = results.filter(({ success }) => success).length;
  assert.ok(accepted <= 50 + 50 * (performance.now() - began) / 1000, `${accepted} accepted`);
  for (const result of results) {
    if (!result.success) assertRefused(result, 1002, /more than 50 messages a second/, "flood");
  }

  const forged = await scene.token2({ sub: `${userId}` }, {}, secrets.GRU_TOKEN1_SECRET);
  const answers = await Promise.all(
    Array.from({ length: 200 }, () => scene.auth(address, userId, forged)),
  );
  for (const answer of answers) assertRefused(answer, 1003, /signature/, "flood of auth");

  // More connections than the node holds: who is in stays in, and the others find room when the flood is over.
  const { hostname, port } = new URL(address);
  const crowd = Array.from(
    { length: 700 },
    () => throwAt({ hostname, port: Number(port) }, [upgrade, textFrame("40")], 60_000),
  );
  await waitFor(() => full(address), { what: "a spear that is full" });
  await waitFor(async () => (await send()).success);
  await Promise.all(crowd);
  await waitFor(async () => !await full(address));
}

async function full(address: string): Promise<boolean> {
  const response = await fetch(`${address}/socket.io/?EIO=4&transport=polling`);
  return (await response.text()).includes("holds 500 connections already");
}

const headers = "Host: x\r\n";
const slowRequests = [
  "",
  `GET /ticket HTTP/1.1\r\n${headers}X: `,
  `POST /ticket HTTP/1.1\r\n${headers}Content-Length: 4000\r\n\r\n`,
  `POST /ticket HTTP/1.1\r\n${headers}Authorization: Bearer x\r\nTransfer-Encoding: chunked\r\n\r\nFFF\r\n`,
];
const slowConnections = [
  "",
  `GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n${headers}X: `,
  `POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\n${headers}Content-Length: 5000\r\n\r\n`,
  // In, and in the middle of a frame.
  `${upgrade.toString("latin1")}\x81\x82\0\0\0\x0040`,
];

/** Many connections that say a byte now and then, or nothing; while others are served. */
export async function slowOnes(scene: Scene): Promise<void> {
  const [spear = ""] = [...scene.spears.values()].map(({ address }) => address);
  const sockets: { readonly socket: Socket; readonly drips: boolean }[] = [];
  const closed: Promise<void>[] = [];
  for (
    const [address, openings] of [
      [spear, [...slowConnections, await slowPoll(spear)]],
      [scene.ticket.address, slowRequests],
      [scene.api, slowRequests],
    ] as const
  ) {
    const { hostname, port } = new URL(address);
    for (let i = 0; i < 300; i++) {
      const opening = openings[i % openings.length] ?? "";
      const socket = connect({ host: hostname, port: Number(port) });
      // Not to those who are in: what they sent would be no frame.
      sockets.push({ socket, drips: !opening.includes("\x81") });
      closed.push(new Promise((resolve) => void socket.on("close", () => resolve())));
      socket.on("error", () => {});
      socket.on("data", () => {});
      socket.write(Buffer.from(opening, "latin1"));
    }
  }
  const dripping = setInterval(() => {
    for (const { socket, drips } of sockets) if (drips) socket.write("x");
  }, 500);
  try {
    await using client = await scene.enter(scene.stranger(), [10]);
    const result = await client.request("msg", { type: 1, target: { id: 10 }, content: "x" });
    assert.equal(result.success, true);
    await Promise.all(closed);
  } finally {
    clearInterval(dripping);
    for (const { socket } of sockets) socket.destroy();
  }
}

/** A packet that comes slowly, on a connection by polling that is open. */
async function slowPoll(address: string): Promise<string> {
  const handshake = await fetch(`${address}/socket.io/?EIO=4&transport=polling`);
  const { sid } = JSON.parse((await handshake.text()).slice(1));
  return `POST /socket.io/?EIO=4&transport=polling&sid=${sid} HTTP/1.1\r\n${headers}` +
    "Content-Length: 5000\r\n\r\n4";
}

/** A spear dies and ticket is away: all its clients come back at once, each by the token that it was given. */
export async function storm(scene: Scene): Promise<void> {
  const [first, second] = scene.spears;
  if (first === undefined || second === undefined) throw new Error("storm: two spears, please");
  const [[name, dying], [backup, staying]] = [first, second];
  const nodes = [name, backup];
  const lost: { readonly userId: number; readonly client: TestClient; readonly resume: string }[] =
    [];
  for (let i = 0; i < 200; i++) {
    const userId = scene.stranger();
    const token2 = await scene.token2({ sub: `${userId}`, nodes, groups: [20] });
    lost.push({ userId, ...await scene.connect(dying.address, userId, token2) });
  }
  scene.ticket.process.freeze();
  try {
    await dying.process.kill();
    await Promise.all(lost.map(async ({ userId, client, resume }) => {
      await client.closed;
      const back = await scene.connect(staying.address, userId, resume);
      await using again = back.client;
      const argument = { userId, subscribeGroups: [{ id: 20 }] };
      assert.equal((await again.request("subscribe", argument)).success, true);
      assertRefused(await again.request("online", 21), 1002, /no right/, "other rights");
    }));
  } finally {
    scene.ticket.process.thaw();
  }
  scene.spears.set(name, await dying.restart());
}
