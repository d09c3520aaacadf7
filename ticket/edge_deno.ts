/** `deno serve --allow-net --allow-env=… ticket/edge_deno.ts` */
import { edgeApp, edgeSettings } from "./edge.ts";

const app = edgeApp(Object.fromEntries(edgeSettings.map((name) => [name, Deno.env.get(name)])));

export default {
  fetch: (request, { remoteAddr }) => {
    const address = remoteAddr.transport === "tcp" ? remoteAddr.hostname : "";
    return app.fetch(request, { address });
  },
} satisfies Deno.ServeDefaultExport;
