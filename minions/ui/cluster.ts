/** The whole cluster on one page: numbers, nodes, the last hour, programs, events. */
import type { ClusterEvent } from "../cluster.ts";
import type { Snapshot, StatSnapshot } from "../snapshot.ts";
import { canaryCard } from "./canary.ts";
import { HourCharts } from "./charts.ts";
import { askDrain, askRebalance, askUndrain } from "./dialogs.ts";
import { badge, h, keepOptions, setText } from "./dom.ts";
import { count, dateAndTime, duration, megabytes, percent, rate, timeOfDay } from "./format.ts";
import { healthList } from "./health.ts";
import { type Column, LiveTable } from "./live_table.ts";
import type { Page, PageOptions } from "./page.ts";
import { vitalsCard } from "./vitals.ts";
import { t, type Word } from "./words.ts";

type Node = StatSnapshot["nodes"][number] & {
  /** The clock's offset, if it is large enough to be shown. */
  readonly clock?: string;
  /** Connections that it takes. */
  readonly capacity?: number | undefined;
};
type Program = Snapshot["instances"][number] & {
  readonly uptimeMs: number;
  readonly clock: string;
};
/** A node that left stays on the page for a while, so that nobody misses it. */
type Gone = {
  readonly node: string;
  readonly gone: "Died" | "Left";
  readonly had: number | undefined;
};

const goneShownMs = 300_000;
const eventsShown = 200;

export function clusterPage({ main, mayAct }: PageOptions): Page {
  const health = healthList();
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
  const vitals = vitalsCard();
  const canary = canaryCard();
  const programs = programTable();
  const events = eventList();

  main.append(
    h("h1", { class: "hidden" }, t("cluster")),
    health.element,
    tiles.element,
    h(
      "section",
      { class: "card spears" },
      h(
        "div",
        { class: "row spread" },
        h("h2", {}, t("spears")),
        mayAct
          ? h("button", { type: "button", class: "small", onclick: askRebalance }, t("rebalance"))
          : undefined,
      ),
      nodes.element,
    ),
    vitals.element,
    h(
      "section",
      { class: "card" },
      h("div", { class: "row spread" }, h("h2", {}, t("lastHour")), select),
      charts.element,
    ),
    canary.element,
    h(
      "div",
      { class: "columns" },
      h("section", { class: "card" }, h("h2", {}, t("programs")), programs.element),
      h("section", { class: "card" }, h("h2", {}, t("events")), events.element),
    ),
  );

  return {
    update(snapshot) {
      const { known, problems, events: happened } = snapshot;
      health.show(snapshot);
      // Rows that may be of an earlier time look so; the warning says of when they are.
      main.classList.toggle("outdated", problems.some(({ away }) => away !== "zookeeper"));
      if (known !== undefined) {
        tiles.show(known);
        nodes.show([...nodesOf(known, snapshot), ...goneNodes(known, snapshot)]);
        keepOptions(select, known.nodes.map(({ node }) => ({ value: node, label: node })));
      }
      programs.show(programsOf(snapshot));
      events.show(happened);
    },
    stop() {
      charts.stop();
      vitals.stop();
      canary.stop();
    },
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
      const isDraining = "gone" in node || node.draining;
      const onclick = () => isDraining ? askUndrain(node.node) : askDrain(node.node);
      const text = t(isDraining ? "undrain" : "drain");
      // A button that stays keeps the focus.
      const button = last?.textContent === text
        ? last
        : h("button", { type: "button", class: "small", onclick }, text);
      button.hidden = "gone" in node;
      return button;
    },
  };
  return new LiveTable({
    label: t("spears"),
    empty: t("noNodes"),
    keyOf: ({ node }) => node,
    classOf: (node) => "gone" in node ? "gone" : "",
    columns: [
      {
        head: t("node"),
        text: (node) => "gone" in node ? node.node : node.node + (node.clock ?? ""),
      },
      { head: t("state"), node: (node, last) => stateBadge(stateOfNode(node), last) },
      {
        head: t("connections"),
        class: "number",
        text: (node) => {
          if ("gone" in node) return node.had === undefined ? "" : t("had", count(node.had));
          return known(node, count(node.connections));
        },
      },
      number(
        "full",
        ({ connections, capacity, reporting }) =>
          capacity === undefined || !reporting ? "–" : percent(connections / capacity),
      ),
      number("users", (node) => known(node, count(node.users))),
      number("groups", (node) => known(node, count(node.groups))),
      number("sentShort", (node) => known(node, rate(node.acceptedPerSecond))),
      number("deliveredShort", (node) => known(node, rate(node.deliveredPerSecond))),
      number("memory", (node) => known(node, megabytes(node.memoryBytes))),
      number("uptime", (node) => duration(node.uptimeMs)),
      { head: t("version"), text: (node) => "gone" in node ? "" : node.version },
      { head: t("address"), text: (node) => "gone" in node ? "" : node.address ?? "" },
      ...(mayAct ? [drain] : []),
    ],
  });
}

/** What a node has not reported is not 0. */
function known({ reporting }: Node, text: string): string {
  return reporting ? text : "–";
}

type State =
  | "Live"
  | "NotReady"
  | "Drained"
  | "Standby"
  | "Away"
  | "Draining"
  | "Silent"
  | Gone["gone"];

function stateOfNode(node: Node | Gone): State {
  if ("gone" in node) return node.gone;
  if (node.draining) return node.reporting && node.connections === 0 ? "Drained" : "Draining";
  return node.reporting ? "Live" : "Silent";
}

function stateBadge(state: State, last: HTMLElement | undefined): HTMLElement {
  const shown = last ?? badge("");
  if (shown.dataset.state !== state) shown.dataset.state = state;
  setText(shown, t(`state${state}`));
  return shown;
}

/** The offset of a wrong clock is shown after the name. */
function clockOf({ meta }: Snapshot["instances"][number]): string {
  const { clockOffsetSeconds: seconds } = meta;
  return typeof seconds === "number"
    ? ` (${t("clock")} ${seconds > 0 ? "+" : ""}${seconds} s)`
    : "";
}

function nodesOf({ nodes }: StatSnapshot, { instances }: Snapshot): Node[] {
  const spears = new Map(
    instances.flatMap((one) => one.service === "spear" ? [[one.name, one] as const] : []),
  );
  return nodes.map((node) => {
    const spear = spears.get(node.node);
    const capacity = spear?.meta.capacity;
    return {
      ...node,
      clock: spear === undefined ? "" : clockOf(spear),
      capacity: typeof capacity === "number" && capacity > 0 ? capacity : undefined,
    };
  });
}

/** All programs except the spears. Both times are the cluster's, because the browser's clock may be wrong. */
function programsOf({ at, instances }: Snapshot): Program[] {
  return instances.filter(({ service }) => service !== "spear").map((one) => ({
    ...one,
    uptimeMs: Math.max(0, at - one.startedAt),
    clock: clockOf(one),
  }));
}

function programTable(): LiveTable<Program> {
  return new LiveTable({
    label: t("programs"),
    empty: t("noPrograms"),
    keyOf: ({ service, name }) => `${service} ${name}`,
    columns: [
      { head: t("node"), text: ({ name, clock }) => name + clock },
      {
        head: t("state"),
        // An idgen that does not issue ids is shown as standby.
        node: ({ meta }, last) => {
          const away = meta.withoutRegistry === true;
          return stateBadge(away ? "Away" : meta.active === false ? "Standby" : "Live", last);
        },
      },
      { head: t("version"), text: ({ meta }) => `${meta.version ?? ""}` },
      {
        head: t("uptime"),
        class: "number",
        text: ({ uptimeMs }) => duration(uptimeMs),
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
      const lines = events.slice(0, eventsShown).map(({ at, kind, name, connections }) =>
        h(
          "li",
          { "data-kind": kind },
          h("time", { title: dateAndTime(at) }, timeOfDay(at)),
          h("strong", {}, name),
          h("span", {}, t(kind)),
          connections === undefined || connections === 0
            ? undefined
            : h("small", {}, t("hadConnections", count(connections))),
        )
      );
      const nothing = h("li", { class: "empty" }, t("noEvents"));
      element.replaceChildren(...(lines.length === 0 ? [nothing] : lines));
    },
  };
}

function goneNodes({ nodes }: StatSnapshot, { at, instances, events }: Snapshot): Gone[] {
  const seen = new Set([...nodes.map(({ node }) => node), ...instances.map(({ name }) => name)]);
  const gone: Gone[] = [];
  for (const { service, name, kind, at: wentAt, connections: had } of events) {
    if (service !== "spear" || seen.has(name)) continue;
    seen.add(name);
    if ((kind !== "died" && kind !== "left") || at - wentAt > goneShownMs) continue;
    gone.push({ node: name, gone: kind === "died" ? "Died" : "Left", had });
  }
  return gone;
}
