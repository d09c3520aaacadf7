/** Who hears whom: the matrix of the canary, with latencies and losses. */
import { type Answer, get } from "./api.ts";
import { apiPath } from "./api_path.ts";
import { type Child, h, plainTable } from "./dom.ts";
import { count } from "./format.ts";
import { t } from "./words.ts";

type Canary = Answer<"canary">;

const periodMs = 5000;
const silentPeriods = 3;

/** Hidden while there are fewer than two nodes that take part. */
export function canaryCard(): { readonly element: HTMLElement; stop(): void } {
  const content = h("div");
  const element = h(
    "section",
    { class: "card", hidden: true },
    h("h2", {}, t("canary")),
    h("p", { class: "light" }, t("canaryHint")),
    content,
  );
  let shown = "";
  async function load(): Promise<void> {
    const canary = await get<Canary>(apiPath("canary")).catch(() => undefined);
    // The warning of the page says why there is no answer.
    if (canary === undefined) return;
    const nodes = canary.nodes.filter(({ periodMs }) => periodMs > 0);
    element.hidden = nodes.length < 2;
    const latest = JSON.stringify(nodes);
    if (latest === shown) return;
    shown = latest;
    content.replaceChildren(matrix(nodes));
  }
  load();
  const timer = setInterval(load, periodMs);
  return { element, stop: () => clearInterval(timer) };
}

function matrix(nodes: Canary["nodes"]): HTMLElement {
  const names = nodes.map(({ node }) => node);
  const heads = [t("hears"), ...names.map((head) => ({ head, class: "number" }))];
  const rows = nodes.map(({ node, heard, periodMs }) => [
    h("strong", {}, node),
    ...names.map((name) => cell(heard.find((one) => one.node === name), periodMs)),
  ]);
  return plainTable(t("canary"), heads, rows, "matrix");
}

function cell(heard: Canary["nodes"][number]["heard"][number] | undefined, period: number): Child {
  if (heard === undefined) return h("span", { title: t("neverHeard") }, "–");
  if (heard.silentMs > silentPeriods * period) {
    return h("span", { class: "problem" }, t("silentFor", count(heard.silentMs / 1000)));
  }
  const latency = heard.latencyMs === null ? "–" : `${heard.latencyMs.toFixed(1)} ms`;
  return heard.lost === 0
    ? latency
    : [latency, " ", h("span", { class: "problem" }, t("lostCount", count(heard.lost)))];
}
