/**
 * The files that a browser is sent, all of them part of the program: plain modules, served as they are written. There is
 * nothing to bundle, so that the console runs from a clean clone, from `up` and from an executable alike.
 */
import io from "socket.io-client/dist/socket.io.js" with { type: "text" };
import uplotStyle from "uplot/dist/uPlot.min.css" with { type: "text" };
import uplot from "uplot/dist/uPlot.iife.min.js" with { type: "text" };
import page from "./ui/index.html" with { type: "text" };
import style from "./ui/style.css" with { type: "text" };
import app from "./ui/app.js" with { type: "text" };
import client from "./ui/client.js" with { type: "text" };
import cluster from "./ui/cluster.js" with { type: "text" };
import dom from "./ui/dom.js" with { type: "text" };
import listen from "./ui/listen.js" with { type: "text" };
import people from "./ui/people.js" with { type: "text" };
import words from "./ui/words.js" with { type: "text" };

const script = "text/javascript; charset=utf-8";
const css = "text/css; charset=utf-8";

export interface Asset {
  readonly text: string;
  readonly type: string;
}

export const assets: Readonly<Record<string, Asset>> = {
  "/": { text: page, type: "text/html; charset=utf-8" },
  "/ui/style.css": { text: style, type: css },
  "/ui/uplot.css": { text: uplotStyle, type: css },
  "/ui/uplot.js": { text: uplot, type: script },
  "/ui/socket.io.js": { text: io, type: script },
  "/ui/app.js": { text: app, type: script },
  "/ui/client.js": { text: client, type: script },
  "/ui/cluster.js": { text: cluster, type: script },
  "/ui/dom.js": { text: dom, type: script },
  "/ui/listen.js": { text: listen, type: script },
  "/ui/people.js": { text: people, type: script },
  "/ui/words.js": { text: words, type: script },
};
