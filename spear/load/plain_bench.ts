/**
 * The servers that spears are compared with, each as its own process: `socket.io <port> [redis url]` or `ws <port>`, on
 * 127.0.0.1. The benchmarks start them.
 */
import { createServer } from "node:http";
import { Server } from "socket.io";
import { WebSocket, WebSocketServer } from "ws";

// deno-lint-ignore no-explicit-any
type Json = any;

/** The message that a client gets, as from a spear, as far as these servers know its fields. */
function messageOf(event: Json, seq: number) {
  const createTime = Date.now();
  return {
    id: String(7_000_000_000_000_000_000n + BigInt(seq)),
    createTime,
    fromId: 1,
    msgType: event.type,
    target: { id: event.target.id, type: -1 },
    content: event.content,
    expireTime: createTime + 300_000,
    seq,
    epoch: "01234567-0123",
  };
}

/**
 * What an application would write without Gru: rooms and a broadcast; over several nodes with socket.io's adapter for
 * Redis.
 */
async function servePlain(port: number, redis: string | undefined): Promise<void> {
  const http = createServer();
  const io = new Server(http, { serveClient: false });
  if (redis !== undefined) {
    const { Redis } = await import("ioredis");
    const { createAdapter } = await import("@socket.io/redis-adapter");
    const publisher = new Redis(redis);
    io.adapter(createAdapter(publisher, publisher.duplicate()));
  }
  let seq = 0;
  io.on("connection", (socket) => {
    socket.on("auth", (_event: Json, reply: (result: Json) => void) => reply({ success: true }));
    socket.on("subscribe", (event: Json, reply: (result: Json) => void) => {
      for (const { id } of event.subscribeGroups) socket.join(String(id));
      reply({ success: true });
    });
    socket.on("msg", (event: Json, reply: (result: Json) => void) => {
      const message = messageOf(event, ++seq);
      io.to(String(event.target.id)).emit("msg", message);
      reply({ success: true, id: message.id, seq });
    });
  });
  http.listen(port, "127.0.0.1");
}

/** Only what these clients need of the protocols above WebSocket, and no checks at all. */
function serveWs(port: number): void {
  const groups = new Map<string, Set<WebSocket>>();
  const server = new WebSocketServer({ port, host: "127.0.0.1" });
  let seq = 0;
  server.on("connection", (socket: WebSocket) => {
    socket.send('0{"sid":"1"}');
    socket.on("message", (data: Uint8Array) => {
      const text = data.toString();
      if (text === "40") return socket.send('40{"sid":"1"}');
      const [, ack, rest = "[]"] = /^42(\d+)(.*)$/s.exec(text) ?? [];
      const [name, event] = JSON.parse(rest);
      let result: Json = { success: true };
      if (name === "subscribe") {
        for (const { id } of event.subscribeGroups) {
          groups.getOrInsertComputed(String(id), () => new Set()).add(socket);
        }
      } else if (name === "msg") {
        const message = messageOf(event, ++seq);
        const bytes = new TextEncoder().encode(`42${JSON.stringify(["msg", message])}`);
        for (const member of groups.get(String(event.target.id)) ?? []) {
          member.send(bytes, { binary: false });
        }
        result = { success: true, id: message.id, seq };
      }
      socket.send(`43${ack}${JSON.stringify([result])}`);
    });
  });
}

const [what, port, redis] = Deno.args;
if (what === "ws") serveWs(Number(port));
else await servePlain(Number(port), redis);
