import assert from "node:assert/strict";
import { logger } from "@gru/shared/log";
import { waitFor } from "@gru/shared/testing/harness";
import { rocketmqTest, startRocketmq } from "@gru/shared/testing/rocketmq";
import { RocketmqLink } from "./link.ts";

/** Forwards IPv6 connections to a server that listens on IPv4. */
function relay(port: number): AsyncDisposable & { readonly port: number; readonly taken: number } {
  const listener = Deno.listen({ hostname: "::1", port: 0 });
  const pipes: Promise<unknown>[] = [];
  let taken = 0;
  const accepting = (async () => {
    for await (const client of listener) {
      taken++;
      const server = await Deno.connect({ hostname: "127.0.0.1", port });
      pipes.push(client.readable.pipeTo(server.writable).catch(() => {}));
      pipes.push(server.readable.pipeTo(client.writable).catch(() => {}));
    }
  })();
  return {
    port: listener.addr.port,
    get taken() {
      return taken;
    },
    [Symbol.asyncDispose]: async () => {
      listener.close();
      await accepting;
      await Promise.all(pipes);
    },
  };
}

rocketmqTest({
  name: "RocketmqLink reaches a proxy at an IPv6 address",
  fn: async () => {
    const topic = "gru";
    await using server = await startRocketmq({ topics: [topic] });
    await using way = relay(server.port);
    const received: string[] = [];
    await using link = new RocketmqLink({
      ...{ proxies: [`[::1]:${way.port}`], topic, group: "gru-spear1", tag: "spear1" },
      holdsGroup: () => true,
      receive: (text) => received.push(text),
      opened: () => {},
      log: logger("spear"),
    });
    await waitFor(() => link.usable);
    await link.send("spear1", "over 6");
    await waitFor(() => received.includes("over 6"));
    assert.ok(way.taken > 0);
  },
});
