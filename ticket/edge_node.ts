/** Bundled: `node edge_node.js`, listening on `HOST` and `PORT`. */
import "./edge_node_require.ts";
import process from "node:process";
import { type HttpBindings, serve } from "@hono/node-server";
import { edgeApp } from "./edge.ts";

const app = edgeApp(process.env);

serve({
  fetch: (request, bindings) => {
    const { incoming } = bindings as HttpBindings;
    return app.fetch(request, { address: incoming.socket.remoteAddress ?? "" });
  },
  hostname: process.env.HOST ?? "127.0.0.1",
  port: Number(process.env.PORT ?? 30000),
  // Slow requests are cut off.
  serverOptions: { headersTimeout: 20_000, requestTimeout: 30_000 },
});
