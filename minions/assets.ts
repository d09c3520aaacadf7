/**
 * The files that a browser is sent: those of the folder `ui`, and two libraries out of their packages. The pages are plain
 * modules, sent as they are written, only without their types. There is nothing to bundle: the console runs from a clean
 * clone, from `up` and from an executable alike.
 */
import { stripTypeScriptTypes } from "node:module";
import io from "socket.io-client/dist/socket.io.js" with { type: "text" };
import uplotStyle from "uplot/dist/uPlot.min.css" with { type: "text" };
import uplot from "uplot/dist/uPlot.iife.min.js" with { type: "text" };

export interface Asset {
  readonly text: string;
  readonly type: string;
}

const types = {
  html: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  ts: "text/javascript; charset=utf-8",
};

/** By path. Read rather than imported: as imports they would be checked as code that runs here, not in a browser. */
export function readAssets(): Map<string, Asset> {
  const folder = new URL("./ui/", import.meta.url);
  const assets = new Map<string, Asset>([
    ["/ui/uplot.css", { text: uplotStyle, type: types.css }],
    ["/ui/uplot.js", { text: uplot, type: types.ts }],
    ["/ui/socket.io.js", { text: io, type: types.ts }],
  ]);
  for (const { name } of Deno.readDirSync(folder)) {
    const text = Deno.readTextFileSync(new URL(name, folder));
    if (name === "index.html") assets.set("/", { text, type: types.html });
    else if (name.endsWith(".css")) assets.set(`/ui/${name}`, { text, type: types.css });
    else if (name.endsWith(".ts")) {
      assets.set(`/ui/${name}`, { text: stripTypeScriptTypes(text), type: types.ts });
    }
  }
  return assets;
}
