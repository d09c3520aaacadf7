/** The whole cluster at a glance: numbers, the last hour, nodes, programs, events. */
import { ask } from "./people.js";
import {
  call,
  count,
  duration,
  get,
  h,
  liveTable,
  megabytes,
  rate,
  setText,
  timeOfDay,
} from "./dom.js";
import { t } from "./words.js";

const ratesMs = 10_000;
const deadShownMs = 300_000;

export function clusterPage({ main, mayAct }) {
  const warning = h("p", { class: "warning", role: "status", hidden: true });
  const tiles = [
    ["nodes", (s) => count(s.nodes.length)],
    ["connections", (s) => count(s.totals.connections)],
    ["users", (s) => count(s.totals.users)],
    ["groups", (s) => count(s.totals.groups)],
    ["sent", (s) => rate(s.totals.acceptedPerSecond)],
    ["delivered", (s) => rate(s.totals.deliveredPerSecond)],
  ].map(([key, text]) => ({ key, text, value: h("dd", {}, "–") }));

  const select = h(
    "select",
    { "aria-label": t("node"), onchange: () => charts.load() },
    h("option", { value: "" }, t("allNodes")),
  );
  const charts = hourCharts(select);

  const state = (node, old) => {
    const kind = node.gone ?? (node.draining ? "Draining" : node.reporting ? "Live" : "Silent");
    const badge = old ?? h("span", { class: "badge" });
    badge.dataset.state = kind;
    setText(badge, t(`state${kind}`));
    return badge;
  };
  const nodes = liveTable({
    label: "spear",
    empty: t("noNodes"),
    columns: [
      { head: t("node"), text: ({ node }) => node },
      { head: t("state"), node: state },
      { head: t("connections"), number: true, text: (n) => n.gone ? "" : count(n.connections) },
      { head: t("users"), number: true, text: (n) => n.gone ? "" : count(n.users) },
      { head: t("groups"), number: true, text: (n) => n.gone ? "" : count(n.groups) },
      { head: t("sentShort"), number: true, text: (n) => n.gone ? "" : rate(n.acceptedPerSecond) },
      {
        head: t("deliveredShort"),
        number: true,
        text: (n) => n.gone ? "" : rate(n.deliveredPerSecond),
      },
      { head: t("memory"), number: true, text: (n) => n.gone ? "" : megabytes(n.memoryBytes) },
      { head: t("uptime"), number: true, text: (n) => n.gone ? "" : duration(n.uptimeMs) },
      { head: t("address"), text: (n) => n.address ?? "" },
      ...(mayAct
        ? [{
          head: h("span", { class: "hidden" }, t("drain")),
          node: (n, old) => {
            const button = old ?? h("button", {
              type: "button",
              class: "small",
              onclick: () => drain(n.node),
            }, t("drain"));
            button.hidden = n.gone !== undefined || n.draining;
            return button;
          },
        }]
        : []),
    ],
  });
  const programs = liveTable({
    label: t("programs"),
    empty: t("noPrograms"),
    columns: [
      { head: t("program"), text: ({ service }) => service.replace("-node", "") },
      { head: t("node"), text: ({ name }) => name },
      { head: t("version"), text: ({ meta }) => String(meta.version ?? "") },
      { head: t("uptime"), number: true, text: (i) => duration(Date.now() - i.startedAt) },
      { head: t("address"), text: ({ addresses }) => Object.values(addresses).join("  ") },
    ],
  });
  const events = h("ol", { class: "events", tabindex: "0", "aria-label": t("events") });
  let eventsShown = "";

  main.append(
    h("h1", { class: "hidden" }, t("cluster")),
    warning,
    h(
      "dl",
      { class: "tiles" },
      tiles.map(({ key, value }) => h("div", { class: "tile" }, h("dt", {}, t(key)), value)),
    ),
    h("section", { class: "card" }, h("h2", {}, "spear"), nodes.element),
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
      h("section", { class: "card" }, h("h2", {}, t("events")), events),
    ),
  );

  function drain(node) {
    ask({
      title: t("askDrain", node),
      note: t("drainNote"),
      run: () => call("POST", `/api/nodes/${encodeURIComponent(node)}/drain`, {}),
      told: ({ connections }) => `${count(connections)} ${t("willMove")}`,
    });
  }

  function showWarning(snapshot) {
    const text = snapshot.problem ?? (snapshot.stale ? t("staleRegistry") : "");
    warning.hidden = text === "";
    setText(warning, text);
  }

  return {
    update(snapshot) {
      showWarning(snapshot);
      if (snapshot.nodes !== undefined) {
        for (const { value, text } of tiles) setText(value, text(snapshot));
        nodes.show(
          [...snapshot.nodes, ...goneNodes(snapshot)],
          ({ node }) => node,
          ({ gone }) => gone === undefined ? "" : "gone",
        );
        keepOptions(select, snapshot.nodes.map(({ node }) => node));
      }
      programs.show(
        snapshot.instances.filter(({ service }) => service !== "spear"),
        ({ service, name }) => `${service} ${name}`,
      );
      const latest = JSON.stringify(snapshot.events);
      if (latest === eventsShown) return;
      eventsShown = latest;
      events.replaceChildren(
        ...snapshot.events.map(({ at, kind, service, name }) =>
          h(
            "li",
            { "data-kind": kind },
            h("time", {}, timeOfDay(at)),
            h("strong", {}, name || service),
            h("span", {}, t(kind)),
          )
        ),
      );
      if (snapshot.events.length === 0) {
        events.replaceChildren(h("li", { class: "empty" }, t("noEvents")));
      }
    },
    stop: () => charts.stop(),
  };
}

/** Spears that went a short while ago and are not back: they stay on the page, so that nobody misses it. */
function goneNodes({ at, nodes, events }) {
  const seen = new Set(nodes.map(({ node }) => node));
  const gone = [];
  for (const event of events) {
    if (event.service !== "spear" || seen.has(event.name)) continue;
    seen.add(event.name);
    const lost = event.kind === "died" || event.kind === "left";
    if (!lost || at - event.at > deadShownMs) continue;
    gone.push({ node: event.name, gone: event.kind === "died" ? "Died" : "Left" });
  }
  return gone;
}

function keepOptions(select, names) {
  const known = [...select.options].slice(1).map(({ value }) => value);
  if (known.join() === names.join()) return;
  const chosen = select.value;
  select.replaceChildren(
    select.options[0],
    ...names.map((name) => h("option", { value: name }, name)),
  );
  select.value = names.includes(chosen) ? chosen : "";
}

/** All that is known of the last hour, ten minutes at least. */
function hourOf([first]) {
  const now = Date.now() / 1000;
  return [Math.max(now - 3600, Math.min(first ?? now, now - 600)), now];
}

function hourCharts(select) {
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = () => ({
    stroke: color("--soft"),
    grid: { stroke: color("--line"), width: 1 },
    ticks: { show: false },
    font: "12px system-ui",
  });
  const kinds = [
    { title: t("connections"), series: [["connections", t("connections")]] },
    {
      title: t("messages"),
      series: [["acceptedPerSecond", t("sentShort")], ["deliveredPerSecond", t("deliveredShort")]],
    },
    { title: t("usersAndGroups"), series: [["users", t("users")], ["groups", t("groups")]] },
    { title: t("memory"), series: [["memoryBytes", t("memory")]], unit: 1_048_576, suffix: " MB" },
  ];
  const element = h("div", { class: "charts" });
  const plots = kinds.map(({ title, series, unit = 1, suffix = "" }) => {
    const holder = h("div", { class: "plot" });
    const legend = h(
      "p",
      { class: "legend" },
      series.length === 1
        ? []
        : series.map(([, label], i) => h("span", { class: `key key${i}` }, label)),
    );
    element.append(h("figure", {}, h("figcaption", {}, title, legend), holder));
    const strokes = [color("--accent"), color("--second")];
    const plot = new globalThis.uPlot(
      {
        width: 300,
        height: 150,
        legend: { show: false },
        padding: [8, 12, 0, 0],
        cursor: { y: false, points: { size: 6 } },
        scales: {
          x: { time: true, range: (plot) => hourOf(plot.data[0]) },
          y: { range: (_, _low, high) => [0, high > 0 ? high * 1.15 : 1] },
        },
        axes: [
          {
            ...axis(),
            values: (_, at) => at.map((s) => timeOfDay(s * 1000).slice(0, 5)),
            space: 60,
            size: 30,
          },
          {
            ...axis(),
            size: 64,
            space: 28,
            values: (_, found) => found.map((value) => `${count(value)}${suffix}`),
          },
        ],
        series: [
          {},
          ...series.map(([, label], i) => ({
            label,
            stroke: strokes[i],
            width: 2,
            points: { show: false },
            ...(i === 0 ? { fill: color("--wash") } : {}),
          })),
        ],
      },
      [[], ...series.map(() => [])],
      holder,
    );
    return { plot, holder, series, unit };
  });
  const resize = () => {
    for (const { plot, holder } of plots) {
      const width = holder.clientWidth;
      if (width > 0 && width !== plot.width) plot.setSize({ width, height: 150 });
    }
  };
  const observer = new ResizeObserver(resize);
  observer.observe(element);

  async function load() {
    const query = select.value === "" ? "" : `?node=${encodeURIComponent(select.value)}`;
    const rates = await get(`/api/rates${query}`).catch(() => undefined);
    if (rates === undefined) return;
    const at = rates.at.map((ms) => ms / 1000);
    for (const { plot, series, unit } of plots) {
      plot.setData([
        at,
        ...series.map(([key]) => rates[key].map((value) => value === null ? null : value / unit)),
      ]);
    }
    resize();
  }
  load();
  const timer = setInterval(load, ratesMs);
  return {
    element,
    load,
    stop() {
      clearInterval(timer);
      observer.disconnect();
      for (const { plot } of plots) plot.destroy();
    },
  };
}
