/** The client library for pages without a build step: one module with everything in it. */
import text from "@gru/client/gru.js" with { type: "text" };
import { Hono } from "hono";
import { cors } from "hono/cors";
import { answerTagged, type Tagged, tagged } from "./etag.ts";

/** The URL is the same for all versions, so a cache asks again soon. Meanwhile it serves its copy. */
const cacheControl = "public, max-age=600, stale-while-revalidate=86400, stale-if-error=604800";

/** The code is not secret: pages of all sites may import it, even if they may not ask for tickets. */
export function clientModuleRoute(): Hono {
  let module: Promise<Tagged> | undefined;
  const app = new Hono();
  app.use("/gru.js", cors());
  app.get("/gru.js", async (context) => {
    context.header("cross-origin-resource-policy", "cross-origin");
    context.header("x-content-type-options", "nosniff");
    module ??= tagged(text);
    const contentType = "text/javascript; charset=utf-8";
    return answerTagged(context, await module, { contentType, cacheControl });
  });
  return app;
}
