import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { connect } from "node:net";
import { slowTest, waitFor } from "@gru/shared/testing/harness";
import { disconnects } from "../disconnects.ts";
import { Gateway, type GatewayOptions } from "./gateway.ts";
import { RawClient } from "../load/raw_client.ts";
import { PollingClient } from "./testing.ts";
import { authenticated, modern, singleSpear, spawnSpear } from "../spear_testing.ts";
import { dialects, TestClient } from "../test_client.ts";

/** A spear, and its gateway. */
async function spearAndGateway(flags: Readonly<Record<string, string | number>> = {}) {
  let gateway: Gateway | undefined;
  const openGateway = async (options: GatewayOptions) => gateway = await Gateway.open(options);
  const spear = await singleSpear(flags, { openGateway });
  assert.ok(gateway);
  return {
    ...{ spear, gateway, address: spear.address },
    [Symbol.asyncDispose]: () => spear[Symbol.asyncDispose](),
  };
}

async function raw(address: string, query = "EIO=4&transport=websocket") {
  const { hostname, port } = new URL(address);
  const packets: string[] = [];
  const codes: number[] = [];
  const client = await RawClient.connect({
    ...{ host: hostname, port: Number(port), query },
    onPacket: (packet) => packets.push(packet.toString()),
    onCloseFrame: (code) => codes.push(code),
  });
  return { client, packets, codes };
}

/** The status line and the body of a request, written by hand. */
function asked(address: string, head: string): Promise<string> {
  const { hostname, port } = new URL(address);
  return new Promise((resolve) => {
    const socket = connect({ host: hostname, port: Number(port) });
    let text = "";
    socket.on("data", (data) => {
      text += data;
      if (text.includes("\r\n\r\n")) socket.destroy();
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(text));
    socket.write(`${head}\r\nHost: x\r\n\r\n`);
  });
}

const webSocketHead = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
  "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==";

const auth = '420["auth",{"id":1}]';
/** Reaches user 2, if it is acted on. */
const toTwo = '42["msg",{"type":0,"target":{"id":2},"content":"late"}]';

/** What no client may do on a connection, after which nothing counts. */
const breaches = {
  "a second CONNECT": ["40"],
  "a CONNECT to another namespace": ["40/admin,{}"],
  "a packet for another namespace": ['42/admin,["msg",{}]'],
  "a packet that is none": ["4x"],
  "an event that is no list": ['42{"a":1}'],
  "an event of socket.io's own": ['42["disconnect"]'],
  "a CONNECT_ERROR": ["44{}"],
  "a message while attachments are awaited": [
    '451-["msg",{"_placeholder":true,"num":0}]',
    "3",
    toTwo,
  ],
  "an attachment that belongs to nothing": ["b4AAAA"],
  "a packet that Engine.IO does not know": ["bAAAA"],
  "an upgrade without a WebSocket for it": ["5"],
  "a packet that only servers send": ["0{}"],
  "eleven attachments": ['4511-["msg"]'],
  "leaving": ["41"],
};

for (const [what, packets] of Object.entries(breaches)) {
  Deno.test(`after ${what} nothing that a connection sends is acted on`, async () => {
    await using open = await spearAndGateway();
    await using honest = await authenticated(open.address, 2);
    for (const engine of [3, 4] as const) {
      const client = await PollingClient.open(open.address, engine);
      if (engine === 4) await client.post("40");
      await client.post(auth);
      await client.pollUntil("430");
      assert.match(await client.post(...packets, toTwo, "40", auth, toTwo), /^200/);
      await waitFor(() => open.gateway.sessions.size === 1);
      await assert.rejects(async () => {
        // What was written before, and that it is over.
        for (let i = 0; i < 3; i++) await client.poll();
      }, /Session ID unknown/);
      const over = await raw(open.address, `EIO=${engine}&transport=websocket`);
      over.client.send(auth.slice(1));
      for (const packet of [...packets, toTwo, "40", auth, toTwo]) over.client.sendEngine(packet);
      await over.client.closed;
      await waitFor(() => open.gateway.sessions.size === 1);
    }
    await honest.request("online", 1);
    assert.deepEqual(honest.pending("msg"), []);
  });
}

Deno.test("a WebSocket is told by its code that it broke the protocol, and what namespace there is not", async () => {
  await using open = await spearAndGateway();
  const twice = await raw(open.address);
  twice.client.send("0");
  await twice.client.closed;
  assert.deepEqual(twice.codes, [4002]);
  const client = await PollingClient.open(open.address);
  const poll = client.pollUntil("44");
  await client.post("40/admin,{}");
  assert.match((await poll).join(), /^44\/admin,\{"message":"Invalid namespace"\}/);
});

Deno.test("20 000 CONNECTs in one request make one session, which ends", async () => {
  await using open = await spearAndGateway();
  const client = await PollingClient.open(open.address);
  let most = 0;
  const post = client.post(...Array<string>(20_000).fill("40"));
  while (
    await Promise.race([post, new Promise<void>((resolve) => setTimeout(resolve, 1))]) === undefined
  ) {
    most = Math.max(most, open.gateway.sessions.size);
  }
  assert.ok(most <= 1, `${most} sessions`);
  await waitFor(() => open.gateway.sessions.size === 0);
});

for (const query of ["", "&sid=", "&sid=&EIO=4", "&x=1&sid="]) {
  for (const transport of ["polling", "websocket"]) {
    Deno.test(`handshakes count towards limits.connections, and are refused while draining (${transport}, query ${query || "plain"})`, async () => {
      await using open = await spearAndGateway({ "limits.connections": 5 });
      const handshakes = Array.from({ length: 60 }, (_, i) => {
        const path = `/socket.io/?EIO=${3 + i % 2}&transport=${transport}${query}`;
        const head = `GET ${path} HTTP/1.1`;
        return transport === "polling"
          ? `${head}\r\nConnection: close`
          : `${head}\r\n${webSocketHead}`;
      });
      // They stay, as nobody closes them.
      const sockets = handshakes.map((head) => {
        const socket = connect({ host: "127.0.0.1", port: open.gateway.port });
        socket.on("error", () => {});
        socket.write(`${head}\r\nHost: x\r\n\r\n`);
        return {
          socket,
          answer: new Promise<string>((resolve) =>
            socket.once("data", (data) => resolve(String(data)))
          ),
        };
      });
      const answers = await Promise.all(sockets.map(({ answer }) => answer));
      assert.equal(answers.filter((text) => /^HTTP\/1.1 (101|200)/.test(text)).length, 5);
      assert.equal(open.gateway.sessions.size, 5);
      for (const { socket } of sockets) socket.destroy();
      open.gateway.refuse("this node is going");
      assert.match(await asked(open.address, handshakes[0] ?? ""), /^HTTP\/1.1 40[03]/);
    });
  }
}

slowTest(
  "the time to authenticate runs from the handshake, whatever a connection does",
  async () => {
    await using open = await spearAndGateway({ "limits.authMs": 300 });
    const silent = await PollingClient.open(open.address);
    const old = await PollingClient.open(open.address, 3);
    const joined = await raw(open.address);
    const busy = setInterval(() => joined.client.send('2["auth",{"id":0}]'), 20);
    assert.equal(open.gateway.sessions.size, 3);
    await joined.client.closed;
    clearInterval(busy);
    await waitFor(() => open.gateway.sessions.size === 0);
    // The end of the transport, for who still polls in time.
    for (const client of [silent, old]) {
      await assert.rejects(client.pollUntil("x"), /Session ID unknown/);
    }
  },
);

slowTest(
  "a TCP connection that asks for nothing, or never finishes asking, is closed; one that has asked is kept",
  async () => {
    await using open = await spearAndGateway({ "limits.authMs": 300 });
    const begin = (text: string) => {
      const socket = connect({ host: "127.0.0.1", port: open.gateway.port });
      socket.on("error", () => {});
      socket.resume();
      socket.write(text);
      return {
        socket,
        closed: new Promise<void>((resolve) => socket.once("close", () => resolve())),
      };
    };
    const asked = begin("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await new Promise((resolve) => asked.socket.once("data", resolve));
    await Promise.all([begin("").closed, begin("GET / HTTP/1.1\r\nHo").closed]);
    assert.equal(asked.socket.closed, false);
    asked.socket.destroy();
    await asked.closed;
  },
);

Deno.test("where origins are limited every request is checked, not just the handshake", async () => {
  const origins = "https://good.example";
  await using open = await spearAndGateway({ origins });
  const good = { origin: origins };
  const client = await PollingClient.open(open.address, 4, "", good);
  const { sid } = client;
  const refused: Record<string, string>[] = [
    { origin: "https://evil.example" },
    { origin: "null" },
    { origin: `${origins}.evil.example` },
    { "sec-fetch-site": "cross-site" },
    { "sec-fetch-site": "same-site" },
    { "sec-fetch-site": "cross-site", origin: "https://evil.example" },
  ];
  const allowed: Record<string, string>[] = [
    {},
    good,
    { ...good, "sec-fetch-site": "cross-site" },
    { "sec-fetch-site": "same-origin" },
    { "sec-fetch-site": "none" },
  ];
  const lines = (headers: Record<string, string>) =>
    Object.entries(headers).map(([name, value]) => `\r\n${name}: ${value}`).join("");
  for (const known of ["", `&sid=${sid}`]) {
    for (const transport of ["polling", "websocket"]) {
      for (const headers of refused) {
        const head = `GET /socket.io/?EIO=4&transport=${transport}${known} HTTP/1.1${
          lines(headers)
        }`;
        const upgrade = transport === "websocket" ? `\r\n${webSocketHead}` : "";
        assert.match(await asked(open.address, head + upgrade), /^HTTP\/1.1 403/, head);
      }
    }
    for (const method of ["POST", "OPTIONS"]) {
      const head = `${method} /socket.io/?EIO=4&transport=polling${known} HTTP/1.1`;
      const evil = `\r\nContent-Length: 0${lines({ origin: "https://evil.example" })}`;
      assert.match(await asked(open.address, head + evil), /^HTTP\/1.1 403/, head);
    }
  }
  for (const jsonp of ["&j=0", "&%6A=0", "&j"]) {
    const head = `GET /socket.io/?EIO=3&transport=polling${jsonp} HTTP/1.1`;
    assert.match(await asked(open.address, head), /^HTTP\/1.1 403[^]*JSONP/, jsonp);
  }
  for (const headers of allowed) await PollingClient.open(open.address, 4, "", headers);
  // The one that began it all is still there.
  assert.match(await client.post("40"), /^200/);
  await using free = await spearAndGateway();
  const script = await asked(free.address, "GET /socket.io/?EIO=3&transport=polling&j=0 HTTP/1.1");
  assert.match(script, /___eio\[0\]\(/);
});

Deno.test("polling is answered with what pages of other sites need, a WebSocket without it", async () => {
  await using open = await spearAndGateway();
  const head = (transport: string) =>
    `GET /socket.io/?EIO=4&transport=${transport} HTTP/1.1\r\nOrigin: https://a.example`;
  const ofPolling = await asked(open.address, head("polling"));
  assert.match(ofPolling, /^HTTP\/1.1 200[^]*access-control-allow-origin: https:\/\/a.example/i);
  const ofWebSocket = await asked(open.address, `${head("websocket")}\r\n${webSocketHead}`);
  assert.match(ofWebSocket, /^HTTP\/1.1 101/);
  assert.doesNotMatch(ofWebSocket, /access-control/i);
});

Deno.test("a spear answers a probe with a query, and keeps idle connections as long as its profile says", async () => {
  await using open = await spearAndGateway();
  for (const path of ["/", "/?probe=1"]) {
    const answer = await asked(open.address, `GET ${path} HTTP/1.1`);
    assert.match(answer, /^HTTP\/1.1 200/, path);
    assert.match(answer, /Keep-Alive: timeout=75/i);
  }
  assert.match(await asked(open.address, "GET /x?probe=1 HTTP/1.1"), /^HTTP\/1.1 404/);
  await using short = await spearAndGateway({ keepAliveMs: 5000 });
  assert.match(await asked(short.address, "GET / HTTP/1.1"), /Keep-Alive: timeout=5\r/i);
});

Deno.test("a new client on polling reads why something that it sent was too large", async () => {
  await using open = await spearAndGateway();
  const client = await PollingClient.open(open.address);
  assert.match(await client.post("40", "x".repeat(100_001)), /^413 .*at most 100000/);
});

/** What a client can ask to be answered below the level of messages, each without reading an answer. */
const floods: Record<string, (address: string, sent: (bytes: number) => boolean) => Promise<void>> =
  {
    "pings of a WebSocket": (address, sent) =>
      overWebSocket(address, sent, "EIO=4", pingFrame(125)),
    "empty pings of a WebSocket": (address, sent) =>
      overWebSocket(address, sent, "EIO=4", pingFrame(0)),
    "pings of Engine.IO 3 on a WebSocket": (address, sent) =>
      overWebSocket(address, sent, "EIO=3", Buffer.from([0x81, 0x81, 0, 0, 0, 0, 0x32])),
    "unasked pongs of Engine.IO 4": (address, sent) =>
      overWebSocket(address, sent, "EIO=4", Buffer.from([0x81, 0x81, 0, 0, 0, 0, 0x33])),
    "probes of an upgrade that never comes": async (address, sent) => {
      const { sid } = await PollingClient.open(address);
      const probe = Buffer.concat([Buffer.from([0x81, 0x86, 0, 0, 0, 0]), Buffer.from("2probe")]);
      await unread(
        address,
        sent,
        `GET /socket.io/?EIO=4&transport=websocket&sid=${sid} HTTP/1.1\r\n${webSocketHead}`,
        probe,
      );
    },
    "requests one behind the other": (address, sent) =>
      unread(address, sent, "GET / HTTP/1.1", Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n")),
    "pings of Engine.IO 3 on polling": async (address, sent) => {
      const client = await PollingClient.open(address, 3);
      const pings = Array<string>(20_000).fill("2");
      while (sent(60_000)) await client.post(...pings);
    },
  };

/** Writes the head, and then the same again and again, and reads nothing. */
async function unread(
  address: string,
  sent: (bytes: number) => boolean,
  head: string,
  again: Buffer,
): Promise<void> {
  const { hostname, port } = new URL(address);
  const socket = connect({ host: hostname, port: Number(port) });
  socket.on("error", () => {});
  socket.pause();
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.write(`${head}\r\nHost: x\r\n\r\n`);
  const chunk = Buffer.concat(Array<Buffer>(Math.ceil(250_000 / again.length)).fill(again));
  for (let stuck = 0; stuck < 500 && !socket.destroyed && sent(chunk.length);) {
    if (socket.write(chunk)) stuck = 0;
    else {
      // What is not taken any more does not wait at the other end either.
      const before = socket.writableLength;
      await new Promise((resolve) => setTimeout(resolve, 1));
      stuck = socket.writableLength < before ? 0 : stuck + 1;
    }
  }
  socket.destroy();
  await closed;
}

function pingFrame(length: number): Buffer {
  return Buffer.concat([Buffer.from([0x89, 0x80 | length]), Buffer.alloc(4 + length)]);
}

async function overWebSocket(
  address: string,
  sent: (bytes: number) => boolean,
  version: string,
  frame: Buffer,
): Promise<void> {
  const { client } = await raw(address, `${version}&transport=websocket`);
  let closed = false;
  void client.closed.then(() => closed = true);
  client.pause();
  const chunk = Buffer.concat(Array<Buffer>(Math.ceil(250_000 / frame.length)).fill(frame));
  while (!closed && sent(chunk.length)) {
    if (!client.sendRaw(chunk)) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  client.close();
  await client.closed;
}

slowTest(
  "nothing that a client makes a spear answer waits without a bound, whatever layer answers",
  async () => {
    await using spear = await spawnSpear();
    await using honest = await authenticated(spear.address, 7);
    for (const [what, flood] of Object.entries(floods)) {
      const before = await spear.residentBytes();
      let [left, most] = [what.includes("polling") ? 3e6 : 60e6, before];
      const watching = setInterval(
        async () => most = Math.max(most, await spear.residentBytes().catch(() => 0)),
        50,
      );
      await flood(spear.address, (bytes) => (left -= bytes) > 0);
      clearInterval(watching);
      most = Math.max(most, await spear.residentBytes());
      const grown = (most - before) / 1e6;
      assert.ok(grown < 80, `${what}: ${grown.toFixed(0)} MB more`);
      assert.equal((await honest.request("online", 1)).success, true);
    }
  },
);

slowTest("of messages that are far too large only the beginning is read", async () => {
  await using open = await spearAndGateway();
  const head = Buffer.from([0x81, 0xff, 0, 0, 0, 0, 0, 0x0f, 0x42, 0x40, 0, 0, 0, 0]);
  const message = Buffer.concat([head, Buffer.alloc(1_000_000)]);
  const { hostname, port } = new URL(open.address);
  const socket = connect({ host: hostname, port: Number(port) });
  socket.on("error", () => {});
  socket.pause();
  const closed = new Promise((resolve) => socket.once("close", resolve));
  const path = "/socket.io/?EIO=4&transport=websocket";
  socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n${webSocketHead}\r\n\r\n`);
  let taken = 0;
  while (!socket.destroyed && taken < 200e6) {
    if (socket.write(message)) taken += message.length;
    else {
      const drained = new Promise((resolve) => socket.once("drain", resolve));
      await Promise.race([drained, closed]);
      if (!socket.destroyed) taken += message.length;
    }
  }
  socket.destroy();
  await closed;
  // What the kernel keeps for a socket that nobody reads comes on top.
  assert.ok(taken < 40e6, `${taken} bytes were taken`);
});

slowTest("a client that is asked to go ends within a second, whether it reads or not", async () => {
  await using open = await spearAndGateway();
  const { client } = await raw(open.address);
  client.pause();
  const [session] = open.gateway.sessions;
  session?.disconnect(disconnects.leaving);
  // ws itself waits half a minute for the answer to its closing.
  await waitFor(() => open.gateway.sessions.size === 0);
  await using _other = await TestClient.connect(open.address, modern);
});

slowTest({
  name: "an old client hears why something that it sent was too large, over every transport",
  // Old clients leave timers behind for a while: it is the last test, so that none ends in another one.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async () => {
    await using open = await spearAndGateway();
    for (const dialect of dialects.filter(({ name }) => /client [12]/.test(name))) {
      const socket = dialect.open(open.address);
      await new Promise<void>((resolve) => void socket.on("connect", resolve));
      const error = new Promise((resolve) => void socket.on("error", resolve));
      socket.emit("auth", JSON.stringify({ id: 1, name: "ж".repeat(60_000) }));
      assert.match(
        String(await error),
        /websocket/.test(dialect.name)
          ? /a message was refused: at most 100000 bytes/
          : /(request of \d+ bytes|message) was refused: at most 100000/,
      );
      socket.disconnect();
    }
  },
});
