/** What one would run without Gru: socket.io on several nodes with its Redis adapter. Started by `cluster_bench.ts`: port, Redis. */
import { createServer } from "node:http";
import { createAdapter } from "npm:@socket.io/redis-adapter@8.3.0";
import { Redis } from "ioredis";
import { Server } from "socket.io";

// deno-lint-ignore no-explicit-any
type Json = any;

function serve(port: number, redis: string): void {
  const publisher = new Redis(redis);
  const http = createServer();
  const io = new Server(http, {
    serveClient: false,
    adapter: createAdapter(publisher, publisher.duplicate()),
  });
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

/** What a client gets, as a spear has it, as far as these servers know it. */
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

if (import.meta.main) {
  const [port, redis = ""] = Deno.args;
  serve(Number(port), redis);
}
