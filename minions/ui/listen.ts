/** Messages of groups and users, live. The server samples a flood; the page renders at most once a frame. */
import type { z } from "zod";
import type { SpearContract } from "@gru/spear/contract";
import { apiPath } from "./api_path.ts";
import { askTrail } from "./trail.ts";
import { field, h, headRow, scrolling, setText } from "./dom.ts";
import { count, timeOfDay } from "./format.ts";
import type { Page, PageOptions } from "./page.ts";
import { t } from "./words.ts";

type Heard = z.output<SpearContract["methods"]["listen"]["output"]>;

/** The most lines on the page: nobody reads more, and a page must not grow for ever. */
const linesKept = 300;
/** The most characters of a message; the rest is cut off. */
const charactersShown = 1000;

export function listenPage({ main }: PageOptions): Page {
  const names = { autocomplete: "off", spellcheck: "false" };
  const groups = h("input", { placeholder: "10, 11", ...names });
  const users = h("input", { placeholder: "1, 2", ...names });
  const filter = h("input", { type: "search", autocomplete: "off" });
  const start = h("button", { class: "primary", type: "submit" }, t("start"));
  const pause = h("button", { type: "button", onclick: togglePause, disabled: true }, t("pause"));
  const clear = h("button", { type: "button", onclick: reset }, t("clear"));
  const state = h("p", { class: "light", role: "status" }, t("listenHint"));
  const seenCount = h("strong", {}, "0");
  const shownCount = h("strong", {}, "0");
  const sampled = h("p", { class: "warning", role: "status", hidden: true }, t("sampled"));
  const lines = h("tbody");
  let source: EventSource | undefined;
  let paused = false;
  let waiting: Heard["messages"] = [];
  let drawing = false;
  let seen = 0;
  let shown = 0;

  function reset(): void {
    [seen, shown, waiting] = [0, 0, []];
    lines.replaceChildren();
    sampled.hidden = true;
    showCounts();
  }
  function showCounts(): void {
    setText(seenCount, count(seen));
    setText(shownCount, count(shown));
  }
  function togglePause(): void {
    paused = !paused;
    setText(pause, t(paused ? "resume" : "pause"));
    if (!paused) schedule();
  }
  function stop(why: string): void {
    source?.close();
    source = undefined;
    setText(start, t("start"));
    setText(state, why);
    pause.disabled = true;
  }
  function begin(event: Event): void {
    event.preventDefault();
    if (source !== undefined) return stop(t("listenHint"));
    const list = ({ value }: HTMLInputElement) => value.split(/[,\s]+/).filter((id) => id !== "");
    const query = new URLSearchParams([
      ...list(groups).map((id) => ["group", id]),
      ...list(users).map((id) => ["user", id]),
    ]);
    if (query.size === 0) {
      setText(state, t("required"));
      return groups.focus();
    }
    source = follow(`${apiPath("listen")}?${query}`);
    setText(start, t("stop"));
    setText(state, t("reconnecting"));
    pause.disabled = false;
  }
  function follow(path: string): EventSource {
    const source = new EventSource(path);
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
      if (source.readyState === EventSource.CLOSED) stop(t("refused"));
      else setText(state, t("reconnecting"));
    };
    return source;
  }

  function take(heard: Heard): void {
    seen += heard.seen;
    if (heard.seen > heard.messages.length) sampled.hidden = false;
    const wanted = filter.value.toLowerCase();
    waiting.push(
      ...heard.messages.filter(({ message }) =>
        wanted === "" || `${message.fromId} ${message.content}`.toLowerCase().includes(wanted)
      ),
    );
    // While the page is paused or hidden, only the newest messages are kept.
    if (waiting.length > linesKept) waiting = waiting.slice(-linesKept);
    schedule();
  }
  function schedule(): void {
    if (drawing) return;
    drawing = true;
    requestAnimationFrame(draw);
  }
  function draw(): void {
    drawing = false;
    if (!paused) {
      shown += waiting.length;
      lines.prepend(...waiting.map(lineOf).reverse());
      waiting = [];
      while (lines.children.length > linesKept) lines.lastElementChild?.remove();
    }
    showCounts();
  }

  const heads = [
    ...[t("time"), t("to"), t("from")].map((head) => ({ head })),
    { head: "seq", class: "number seq" },
    { head: t("content"), class: "content" },
  ];
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
      state,
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
          h("span", {}, t("seen"), " ", seenCount),
          h("span", {}, t("shown"), " ", shownCount),
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
      scrolling(t("messagesHeard"), "lines", h("table", {}, headRow(heads), lines)),
    ),
  );
  return { stop: () => source?.close() };
}

function lineOf({ target, message }: Heard["messages"][number]): HTMLElement {
  return h(
    "tr",
    {},
    h(
      "td",
      {},
      h(
        "button",
        {
          type: "button",
          class: "link",
          title: t("trail"),
          onclick: () => askTrail(message.id, target),
        },
        timeOfDay(message.createTime),
      ),
    ),
    h("td", {}, `${t(target.kind)} ${target.id}`),
    h("td", {}, `${message.fromId}`),
    h("td", { class: "number seq" }, `${message.seq}`),
    h("td", { class: "content" }, message.content.slice(0, charactersShown)),
  );
}
