/// <reference lib="deno.ns" />
/** Gives the example application to browsers: its files, as they are written but without types, and where ticket is. */
import { stripTypeScriptTypes } from "node:module";

export interface ExampleOptions {
  /** The address of ticket. */
  readonly ticket: string;
  /** Stops a node for a while, to be looked at; undefined: nobody may. Resolves to false where there is no such node. */
  readonly stopNode?: (name: string) => boolean;
}

const types: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  ts: "text/javascript; charset=utf-8",
};
const files = ["index.html", "style.css", "app.ts", "conversations.ts", "view.ts"];

/** Pages of other sites must be kept out by the caller. */
export function exampleHandler(
  { ticket, stopNode }: ExampleOptions,
): (request: Request) => Response {
  const texts = new Map(files.map((name) => {
    const text = Deno.readTextFileSync(new URL(name, import.meta.url));
    return [name, name.endsWith(".ts") ? stripTypeScriptTypes(text) : text];
  }));
  const policy = `default-src 'self'; script-src 'self' ${ticket}; img-src 'self' data:; ` +
    "connect-src *; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

  return ({ url, method }) => {
    const { pathname } = new URL(url);
    const [, node] = /^\/nodes\/([\w-]+)\/stop$/.exec(pathname) ?? [];
    if (node !== undefined && method === "POST") {
      return new Response(null, { status: stopNode?.(node) ? 202 : 404 });
    }
    if (pathname === "/config.json") {
      return Response.json({ ticket, canStop: stopNode !== undefined });
    }
    const name = pathname === "/" ? "index.html" : pathname.slice(1);
    const text = texts.get(name);
    if (text === undefined) return new Response("not found\n", { status: 404 });
    return new Response(method === "HEAD" ? null : text, {
      headers: {
        "content-type": types[name.split(".").at(-1) ?? ""] ?? "",
        "cache-control": "no-cache",
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
      },
    });
  };
}
