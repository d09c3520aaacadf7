/** A Workers module, with the flag `nodejs_compat`: its bindings are the settings. */
import "./edge_require.ts";
import type { ExecutionContext } from "hono";
import { edgeApp, type EdgeSettings } from "./edge.ts";

/** Without it the platform does not cache JSON. The answer's `Cache-Control` says for how long. */
const nodesRequest = { cf: { cacheEverything: true } } as RequestInit;

export default worker();

function worker() {
  let app: ReturnType<typeof edgeApp> | undefined;
  return {
    fetch(request: Request, settings: EdgeSettings, context: ExecutionContext) {
      app ??= edgeApp(settings, nodesRequest);
      const address = request.headers.get("cf-connecting-ip") ?? "";
      return app.fetch(request, { address }, context);
    },
  };
}
