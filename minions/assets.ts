/**
 * The files for browsers: the folder `ui`, and two libraries from their packages. The pages are plain modules, sent as
 * written except for their types and the address of the client library. Nothing is bundled: the console runs the same from a clean clone, in `up` and in an
 * executable.
 */
import { stripTypeScriptTypes } from "node:module";
import client from "@gru/client/gru.js" with { type: "text" };
import uplotStyle from "uplot/dist/uPlot.min.css" with { type: "text" };
import uplot from "uplot/dist/uPlot.iife.min.js" with { type: "text" };

export interface Asset {
  readonly text: string;
  readonly type: string;
}

const clientModule = "/ui/gru.js";

const types = {
  html: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  ts: "text/javascript; charset=utf-8",
};

/** By path. Read as text, not imported: imports would be checked as code that runs here, not in a browser. */
export function readAssets(): Map<string, Asset> {
  const folder = new URL("./ui/", import.meta.url);
  const assets = new Map<string, Asset>([
    ["/ui/uplot.css", { text: uplotStyle, type: types.css }],
    ["/ui/uplot.js", { text: uplot, type: types.ts }],
    [clientModule, { text: client, type: types.ts }],
  ]);
  for (const { name } of Deno.readDirSync(folder)) {
    const text = Deno.readTextFileSync(new URL(name, folder));
    if (name === "index.html") assets.set("/", { text, type: types.html });
    else if (name.endsWith(".css")) assets.set(`/ui/${name}`, { text, type: types.css });
    else if (name.endsWith(".ts")) {
      const code = stripTypeScriptTypes(text).replace('"@gru/client"', `"${clientModule}"`);
      assets.set(`/ui/${name}`, { text: code, type: types.ts });
    }
  }
  return assets;
}
