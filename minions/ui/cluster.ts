/** The whole cluster at a glance: numbers, nodes, the last hour, programs, events. */
import type { ClusterEvent } from "../cluster.ts";
import type { Snapshot, StatSnapshot } from "../snapshot.ts";
import { HourCharts } from "./charts.ts";
import { askDrain } from "./dialogs.ts";
import { badge, h, keepOptions, setText } from "./dom.ts";
import { count, duration, megabytes, rate, timeOfDay } from "./format.ts";
import { type Column, LiveTable } from "./live_table.ts";
import type { Page, PageOptions } from "./page.ts";
import { t, type Word } from "./words.ts";

type Node = StatSnapshot["nodes"][number];
/** One that went stays on the page for a while, so that nobody misses it. */
type Gone = { readonly node: string; readonly gone: "Died" | "Left" };

const goneShownMs = 300_000;

export function clusterPage({ main, mayAct }: PageOptions): Page {
  const warning = h("p", { class: "warning", role: "status", hidden: true });
  const tiles = tilesOf([
    ["nodes", ({ nodes }) => count(nodes.length)],
    ["connections", ({ totals }) => count(totals.connections)],
    ["users", ({ totals }) => count(totals.users)],
    ["groups", ({ totals }) => count(totals.groups)],
    ["sent", ({ totals }) => rate(totals.acceptedPerSecond)],
    ["delivered", ({ totals }) => rate(totals.deliveredPerSecond)],
  ]);
  const nodes = nodeTable(mayAct);
  const select: HTMLSelectElement = h(
    "select",
    { "aria-label": t("node"), onchange: () => charts.show(select.value) },
    h("option", { value: "" }, t("allNodes")),
  );
  const charts = new HourCharts();
  const programs = programTable();
  const events = eventList();

  main.append(
    h("h1", { class: "hidden" }, t("cluster")),
    warning,
    tiles.element,
    h("section", { class: "card" }, h("h2", {}, t("spears")), nodes.element),
    h(
      "section",
      { class: "card" },
      h("div", { class: "row spread" }, h("h2", {}, t("lastHour")), select),
      charts.element,
    ),
    h(
      "div",
      { class: "columns" },
      h("section", { class: "card" }, h("h2", {}, t("programs")), programs.element),
      h("section", { class: "card" }, h("h2", {}, t("events")), events.element),
    ),
  );

  return {
    update(snapshot) {
      const problem = "problem" in snapshot
        ? snapshot.problem
        : snapshot.stale
        ? t("staleRegistry")
        : "";
      warning.hidden = problem === "";
      setText(warning, problem);
      if ("nodes" in snapshot) {
        tiles.show(snapshot);
        nodes.show([...snapshot.nodes, ...goneNodes(snapshot)]);
        keepOptions(select, snapshot.nodes.map(({ node }) => ({ value: node, label: node })));
      }
      programs.show(snapshot.instances.filter(({ service }) => service !== "spear"));
      events.show(snapshot.events);
    },
    stop: () => charts.stop(),
  };
}

function tilesOf(kinds: readonly (readonly [Word, (snapshot: StatSnapshot) => string])[]) {
  const tiles = kinds.map(([word, text]) => ({ word, text, value: h("dd", {}, "–") }));
  const element = h(
    "dl",
    { class: "tiles" },
    tiles.map(({ word, value }) => h("div", { class: "tile" }, h("dt", {}, t(word)), value)),
  );
  return {
    element,
    show(snapshot: StatSnapshot): void {
      for (const { value, text } of tiles) setText(value, text(snapshot));
    },
  };
}

function nodeTable(mayAct: boolean): LiveTable<Node | Gone> {
  const number = (word: Word, text: (node: Node) => string): Column<Node | Gone> => ({
    head: t(word),
    class: "number",
    text: (node) => "gone" in node ? "" : text(node),
  });
  const drain: Column<Node | Gone> = {
    head: h("span", { class: "hidden" }, t("drain")),
    class: "act",
    node(node, last) {
      const onclick = () => askDrain(node.node);
      const button = last ?? h("button", { type: "button", class: "small", onclick }, t("drain"));
      button.hidden = "gone" in node || node.draining;
      return button;
    },
  };
  return new LiveTable({
    label: t("spears"),
    empty: t("noNodes"),
    keyOf: ({ node }) => node,
    classOf: (node) => "gone" in node ? "gone" : "",
    columns: [
      { head: t("node"), text: ({ node }) => node },
      { head: t("state"), node: (node, last) => stateBadge(stateOfNode(node), last) },
      number("connections", (node) => count(node.connections)),
      number("users", (node) => count(node.users)),
      number("groups", (node) => count(node.groups)),
      number("sentShort", (node) => rate(node.acceptedPerSecond)),
      number("deliveredShort", (node) => rate(node.deliveredPerSecond)),
      number("memory", (node) => megabytes(node.memoryBytes)),
      number("uptime", (node) => duration(node.uptimeMs)),
      { head: t("address"), text: (node) => "gone" in node ? "" : node.address ?? "" },
      ...(mayAct ? [drain] : []),
    ],
  });
}

type State = "Live" | "Standby" | "Draining" | "Silent" | Gone["gone"];

function stateOfNode(node: Node | Gone): State {
  if ("gone" in node) return node.gone;
  if (node.draining) return "Draining";
  return node.reporting ? "Live" : "Silent";
}

function stateBadge(state: State, last: HTMLElement | undefined): HTMLElement {
  const shown = last ?? badge("");
  if (shown.dataset.state !== state) shown.dataset.state = state;
  setText(shown, t(`state${state}`));
  return shown;
}

function programTable(): LiveTable<Snapshot["instances"][number]> {
  return new LiveTable({
    label: t("programs"),
    empty: t("noPrograms"),
    keyOf: ({ service, name }) => `${service} ${name}`,
    columns: [
      { head: t("node"), text: ({ name }) => name },
      {
        head: t("state"),
        // An idgen that does not issue ids now says so.
        node: ({ meta }, last) => stateBadge(meta.active === false ? "Standby" : "Live", last),
      },
      { head: t("version"), text: ({ meta }) => `${meta.version ?? ""}` },
      {
        head: t("uptime"),
        class: "number",
        text: ({ startedAt }) => duration(Date.now() - startedAt),
      },
      { head: t("address"), text: ({ addresses }) => Object.values(addresses).join("  ") },
    ],
  });
}

function eventList() {
  const element = h("ol", { class: "events", tabindex: "0", "aria-label": t("events") });
  let shown: string | undefined;
  return {
    element,
    show(events: readonly ClusterEvent[]): void {
      const latest = JSON.stringify(events);
      if (latest === shown) return;
      shown = latest;
      const lines = events.map(({ at, kind, name }) =>
        h(
          "li",
          { "data-kind": kind },
          h("time", {}, timeOfDay(at)),
          h("strong", {}, name),
          h("span", {}, t(kind)),
        )
      );
      const nothing = h("li", { class: "empty" }, t("noEvents"));
      element.replaceChildren(...(lines.length === 0 ? [nothing] : lines));
    },
  };
}

function goneNodes({ at, nodes, events }: StatSnapshot & Snapshot): Gone[] {
  const seen = new Set(nodes.map(({ node }) => node));
  const gone: Gone[] = [];
  for (const { service, name, kind, at: wentAt } of events) {
    if (service !== "spear" || seen.has(name)) continue;
    seen.add(name);
    if ((kind !== "died" && kind !== "left") || at - wentAt > goneShownMs) continue;
    gone.push({ node: name, gone: kind === "died" ? "Died" : "Left" });
  }
  return gone;
}
