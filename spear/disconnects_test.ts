import assert from "node:assert/strict";
import { WebSocket } from "ws";
import { freePort, slowTest, waitFor } from "@gru/shared/testing/harness";
import { InDoubtError } from "./broker/broker.ts";
import { MemoryBus } from "./broker/memory.ts";
import { type Disconnect, disconnects, firstFinalCode } from "./disconnects.ts";
import { Gateway, type GatewayOptions } from "./socket/gateway.ts";
import { RawClient } from "./load/raw_client.ts";
import { PollingClient } from "./socket/testing.ts";
import { authenticated, singleSpear } from "./spear_testing.ts";
import { type StockClient, stockClients } from "./stock_testing.ts";

const kinds: [string, Disconnect][] = Object.entries(disconnects);

/** A spear, and what ends its connections. */
async function spearAndGateway() {
  let gateway: Gateway | undefined;
  const openGateway = async (options: GatewayOptions) => gateway = await Gateway.open(options);
  const spear = await singleSpear({}, { openGateway });
  assert.ok(gateway);
  const { sessions } = gateway;
  return {
    ...{ sessions, address: spear.address },
    session: (userId: unknown) => {
      const session = [...sessions].find((session) => session.userId === String(userId));
      assert.ok(session);
      return session;
    },
    [Symbol.asyncDispose]: () => spear[Symbol.asyncDispose](),
  };
}

/** Old clients leave timers behind for a while. */
const leavesTimers = { sanitizeOps: false, sanitizeResources: false };

Deno.test("the range of its code says whether a client returns, and no two kinds of disconnect have the same one", () => {
  for (const [name, { code, text, comesBack }] of kinds) {
    assert.equal(code < firstFinalCode, comesBack, name);
    assert.ok(code >= 4000 && code < 5000 && text.length < 124, name);
  }
  assert.equal(new Set(kinds.map(([, { code }]) => code)).size, kinds.length);
});

Deno.test("README names each kind of disconnect with its code and whether the client returns", () => {
  const readme = Deno.readTextFileSync(new URL("./README.md", import.meta.url));
  for (const [name, { code, comesBack }] of kinds) {
    const row = readme.split("\n").find((line) => line.startsWith(`| ${code} `)) ?? "";
    assert.match(row, new RegExp(`^\\| ${code} +\\| \`${name}\` +\\|`), name);
    assert.match(row, comesBack ? /\| reconnect / : /\| stay away /, name);
  }
});

for (const stock of stockClients) {
  slowTest({
    name:
      `${stock.name} returns by itself after each disconnect but a kick, a ban and a refused auth`,
    ...leavesTimers,
    fn: async () => {
      await using open = await spearAndGateway();
      for (const [name, why] of kinds) {
        await using client = await stock.open(open.address);
        await waitFor(() => client.authentications === 1);
        const session = open.session(client.userId);
        session.emit("kicked", { reason: name });
        session.disconnect(why);
        await waitFor(() => client.ends.length === 1);
        if (why.comesBack) {
          assert.notEqual(client.ends[0], "io server disconnect", name);
          await waitFor(() => client.authentications === 2);
          assert.equal(client.connected, true);
        } else {
          assert.equal(client.ends[0], "io server disconnect", name);
          assert.equal(client.tries, 0, name);
        }
        // Where the client reads at all, the last words come before the end.
        if (!why.atOnce) assert.deepEqual(client.received("kicked"), [{ reason: name }], name);
      }
    },
  });
}

for (const engine of [3, 4] as const) {
  Deno.test(`a WebSocket is told by its code why it was closed (Engine.IO ${engine})`, async () => {
    await using open = await spearAndGateway();
    const { hostname, port } = new URL(open.address);
    for (const [name, why] of kinds) {
      const codes: number[] = [];
      const client = await RawClient.connect({
        ...{ host: hostname, port: Number(port), query: `EIO=${engine}&transport=websocket` },
        onPacket: () => {},
        onCloseFrame: (code) => codes.push(code),
      });
      await waitFor(() => open.sessions.size === 1);
      for (const session of open.sessions) session.disconnect(why);
      await client.closed;
      assert.deepEqual(codes, [why.code], name);
    }
  });

  Deno.test(`a poll that comes after the disconnect still brings the last words (Engine.IO ${engine})`, async () => {
    await using open = await spearAndGateway();
    for (const [name, why] of kinds) {
      if (why.atOnce) continue;
      const client = await PollingClient.open(open.address, engine);
      if (engine === 4) await client.post("40");
      await client.pollUntil("40");
      const [session] = open.sessions;
      session?.emit("kicked", { reason: name });
      session?.disconnect(why);
      assert.equal(open.sessions.size, 0);
      const packets = await client.poll();
      const words = [`42["kicked",{"reason":"${name}"}]`, ...(why.comesBack ? [] : ["41"])];
      assert.deepEqual(packets.slice(0, words.length), words, name);
      // Engine.IO's own word for the end keeps some clients away, too.
      const end = packets.includes("1") ? Promise.resolve() : client.pollUntil("1");
      if (why.comesBack) await assert.rejects(end, /400.*Session ID unknown/, name);
      else await end;
    }
  });
}

for (const engine of [3, 4] as const) {
  slowTest({
    name:
      `a client that is disconnected on its way from polling to a WebSocket is told there (Engine.IO ${engine})`,
    // Polling that was left behind ends a second later.
    ...leavesTimers,
    fn: async () => {
      await using open = await spearAndGateway();
      for (const [name, why] of kinds) {
        const client = await PollingClient.open(open.address, engine);
        if (engine === 4) await client.post("40");
        await client.pollUntil("40");
        const { host } = new URL(open.address);
        const query = `EIO=${engine}&transport=websocket&sid=${client.sid}`;
        const socket = new WebSocket(`ws://${host}/socket.io/?${query}`);
        const packets: string[] = [];
        const closed = new Promise<number>((resolve) => socket.on("close", resolve));
        socket.on("message", (data: unknown) => packets.push(String(data)));
        socket.on("open", () => socket.send("2probe"));
        await waitFor(() => packets.includes("3probe"));
        const [session] = open.sessions;
        session?.disconnect(why);
        assert.equal(open.sessions.size, 0);
        // Its last poll has been answered: the WebSocket is all that it listens to now.
        socket.send("5");
        assert.equal(await closed, why.code, name);
      }
    },
  });
}

Deno.test("a client on OkHttp, which misses close frames, is told by the end of its TCP connection, behind the last words", async () => {
  await using open = await spearAndGateway();
  const { host } = new URL(open.address);
  for (const [name, why] of kinds) {
    const socket = new WebSocket(`ws://${host}/socket.io/?EIO=4&transport=websocket`, {
      headers: { "user-agent": "okhttp/3.12.12" },
    });
    const packets: string[] = [];
    const closed = new Promise<number>((resolve) => socket.on("close", resolve));
    socket.on("message", (data: unknown) => packets.push(String(data)));
    socket.on("open", () => socket.send("40"));
    await waitFor(() => packets.some((packet) => packet.startsWith("40")));
    const [session] = open.sessions;
    session?.emit("kicked", { reason: name });
    session?.disconnect(why);
    // As where no close frame came.
    assert.equal(await closed, 1006, name);
    assert.ok(packets.includes(`42["kicked",{"reason":"${name}"}]`), name);
  }
});

const causes: Record<string, (stock: StockClient) => Promise<void>> = {
  "an auth that does not come in time": async (stock) => {
    await using spear = await singleSpear({ "limits.authMs": 300 });
    await using client = await stock.open(spear.address, { authenticates: false });
    await waitFor(() => client.connections >= 3);
  },
  "a message in doubt": async (stock) => {
    class Doubtful extends MemoryBus {
      doubts = 1;
      override connect(...args: Parameters<MemoryBus["connect"]>) {
        const broker = super.connect(...args);
        return {
          ...broker,
          connected: true,
          publish: (...[publication]: Parameters<typeof broker.publish>) => {
            if (this.doubts-- > 0) throw new InDoubtError("the connection broke");
            return broker.publish(publication);
          },
          [Symbol.asyncDispose]: () => broker[Symbol.asyncDispose](),
        };
      }
    }
    const bus = new Doubtful({ size: 100, ageMs: 60_000 });
    await using spear = await singleSpear({}, { bus });
    await using client = await stock.open(spear.address);
    await waitFor(() => client.authentications === 1);
    const message = { type: 0, target: { id: client.userId }, content: "x", clientMsgId: "1" };
    client.emit("msg", message);
    await waitFor(() => client.authentications === 2);
    client.emit("msg", message);
    await waitFor(() => client.received("msg").length === 1);
  },
  "a place that is not free yet": async (stock) => {
    await using spear = await singleSpear({ "limits.connectionsPerUser": 1 });
    await using client = await stock.open(spear.address);
    await waitFor(() => client.authentications === 1);
    await using second = await stock.open(spear.address, { userId: client.userId });
    await waitFor(() => second.ends.length >= 2);
    assert.equal(second.authentications, 0);
    client.leave();
    await waitFor(() => second.authentications === 1);
  },
  "a stop": async (stock) => {
    const ports = { port: freePort(), monitorPort: freePort() };
    const spear = await singleSpear({ ...ports, drainMs: 200 });
    await using client = await stock.open(spear.address);
    await waitFor(() => client.authentications === 1);
    await spear[Symbol.asyncDispose]();
    await using _again = await singleSpear(ports);
    await waitFor(() => client.authentications === 2);
  },
};

for (const [cause, play] of Object.entries(causes)) {
  slowTest({
    name: `stock clients return by themselves after ${cause}`,
    ...leavesTimers,
    fn: async () => {
      await Promise.all(stockClients.map(play));
    },
  });
}

slowTest({
  name: "a stock client whose auth was refused is told why, and stays away",
  ...leavesTimers,
  fn: async () => {
    await using spear = await singleSpear();
    await using _other = await authenticated(spear.address, 1);
    for (const stock of stockClients) {
      await using client = await stock.open(spear.address, { userId: "nobody" });
      await waitFor(() => client.ends.length === 1);
      assert.deepEqual(client.ends, ["io server disconnect"], stock.name);
      assert.match(client.refusals.join(), /auth.id: .*"nobody"/, stock.name);
      assert.equal(client.tries, 0);
    }
  },
});
