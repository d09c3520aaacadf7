/** Messages of groups and users as they flow. The server samples a flood; the page draws once a frame, at most. */
import { count, field, h, setText, timeOfDay } from "./dom.js";
import { t } from "./words.js";

/** Lines on the page: more nobody reads, and a page must not grow for ever. */
const linesKept = 300;

export function listenPage({ main }) {
  const groups = h("input", { placeholder: "10, 11", autocomplete: "off", spellcheck: "false" });
  const users = h("input", { placeholder: "1, 2", autocomplete: "off", spellcheck: "false" });
  const filter = h("input", { type: "search", autocomplete: "off" });
  const start = h("button", { class: "primary", type: "submit" }, t("start"));
  const pause = h("button", { type: "button", onclick: togglePause, disabled: true }, t("pause"));
  const clear = h("button", { type: "button", onclick: reset }, t("clear"));
  const state = h("span", { class: "light", role: "status" }, t("listenHint"));
  const [seenCount, shownCount] = [h("strong", {}, "0"), h("strong", {}, "0")];
  const sampled = h("p", { class: "warning", hidden: true }, t("sampled"));
  const lines = h("tbody");
  let source;
  let paused = false;
  let waiting = [];
  let drawing = false;
  let [seen, shown] = [0, 0];

  function reset() {
    [seen, shown, waiting] = [0, 0, []];
    lines.replaceChildren();
    sampled.hidden = true;
    showCounts();
  }
  function showCounts() {
    setText(seenCount, count(seen));
    setText(shownCount, count(shown));
  }
  function togglePause() {
    paused = !paused;
    setText(pause, t(paused ? "resume" : "pause"));
    if (!paused) schedule();
  }
  function stop() {
    source?.close();
    source = undefined;
    setText(start, t("start"));
    setText(state, t("listenHint"));
    pause.disabled = true;
  }
  function begin(event) {
    event.preventDefault();
    if (source !== undefined) return stop();
    const list = (input) => input.value.split(/[,\s]+/).filter((id) => id !== "");
    const query = new URLSearchParams([
      ...list(groups).map((id) => ["group", id]),
      ...list(users).map((id) => ["user", id]),
    ]);
    if (query.size === 0) {
      setText(state, t("required"));
      return groups.focus();
    }
    source = new EventSource(`/api/listen?${query}`);
    source.addEventListener(
      "listening",
      ({ data }) => setText(state, t("listeningOn", JSON.parse(data).node)),
    );
    source.addEventListener(
      "away",
      ({ data }) => setText(state, t("away", JSON.parse(data).message)),
    );
    source.addEventListener("messages", ({ data }) => take(JSON.parse(data)));
    source.onerror = () => {
      if (source?.readyState === EventSource.CLOSED) {
        stop();
        setText(state, t("away", query.toString()));
      } else setText(state, t("reconnecting"));
    };
    setText(start, t("stop"));
    setText(state, t("reconnecting"));
    pause.disabled = false;
  }

  function take(heard) {
    seen += heard.seen;
    if (heard.seen > heard.messages.length) sampled.hidden = false;
    const wanted = filter.value.toLowerCase();
    waiting.push(
      ...heard.messages.filter(({ message }) =>
        wanted === "" || `${message.fromId} ${message.content}`.toLowerCase().includes(wanted)
      ),
    );
    // While the page is paused, or not drawn at all, only the newest are kept.
    if (waiting.length > linesKept) waiting = waiting.slice(-linesKept);
    schedule();
  }
  function schedule() {
    if (drawing) return;
    drawing = true;
    requestAnimationFrame(() => {
      drawing = false;
      showCounts();
      if (paused) return;
      shown += waiting.length;
      const rows = waiting.map(({ target, message }) =>
        h(
          "tr",
          {},
          h("td", {}, timeOfDay(message.createTime)),
          h("td", {}, `${t(target.kind)} ${target.id}`),
          h("td", {}, `${message.fromId}`),
          h("td", { class: "number seq" }, `${message.seq}`),
          h("td", { class: "content" }, message.content.slice(0, 1000)),
        )
      );
      waiting = [];
      lines.prepend(...rows.reverse());
      while (lines.children.length > linesKept) lines.lastElementChild.remove();
      showCounts();
    });
  }

  main.append(
    h("h1", { class: "hidden" }, t("listen")),
    h(
      "section",
      { class: "card" },
      h(
        "form",
        { class: "row", onsubmit: begin },
        field(t("listenGroups"), groups),
        field(t("listenUsers"), users),
        start,
      ),
      h("p", { class: "row" }, state),
    ),
    h(
      "section",
      { class: "card" },
      h(
        "div",
        { class: "row spread" },
        h(
          "p",
          { class: "counts" },
          t("seen"),
          " ",
          seenCount,
          h("span", { class: "gap" }),
          t("shown"),
          " ",
          shownCount,
        ),
        h(
          "div",
          { class: "row" },
          h("label", { class: "inline" }, h("span", {}, t("filter")), filter),
          pause,
          clear,
        ),
      ),
      sampled,
      h(
        "div",
        { class: "scroll lines", tabindex: "0", role: "region", "aria-label": t("listen") },
        h(
          "table",
          {},
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              [t("time"), t("to"), t("from")].map((head) => h("th", { scope: "col" }, head)),
              h("th", { scope: "col", class: "number seq" }, "seq"),
              h("th", { scope: "col" }, t("content")),
            ),
          ),
          lines,
        ),
      ),
    ),
  );
  return { stop };
}
