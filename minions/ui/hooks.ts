/** How far the business systems are that are told of events, and sending again. */
import { type Answer, get, messageOf } from "./api.ts";
import { apiPath } from "./api_path.ts";
import { askReplay } from "./dialogs.ts";
import { badge, h } from "./dom.ts";
import { count, dateAndTime, duration } from "./format.ts";
import { LiveTable } from "./live_table.ts";
import type { Page, PageOptions } from "./page.ts";
import { t, type Word } from "./words.ts";

type Endpoint = Answer<"hookList">["endpoints"][number];

const periodMs = 2000;

const words: Readonly<Record<Endpoint["state"], Word>> = {
  ...{ delivering: "hookDelivering", failing: "hookFailing", resting: "hookResting" },
  ...{ gone: "hookGone", new: "hookNew" },
};
const colours = {
  ...{ delivering: "Live", failing: "Away", resting: "Gone", gone: "Gone", new: "Unknown" },
} as const;

export function hooksPage({ main, mayAct }: PageOptions): Page {
  const note = h("p", { class: "empty", role: "status" }, t("loading"));
  const number = (text: (one: Endpoint) => string) => ({ class: "number", text });
  const table = new LiveTable<Endpoint>({
    label: t("hooks"),
    empty: t("noHooks"),
    keyOf: ({ name }) => name,
    columns: [
      { head: t("name"), text: ({ name }) => name },
      {
        head: t("state"),
        node: ({ state }, last) =>
          last?.textContent === t(words[state]) ? last : badge(t(words[state]), colours[state]),
      },
      { head: t("hookDelivered"), ...number(({ delivered }) => count(delivered)) },
      { head: t("waiting"), ...number(({ waiting }) => count(waiting)) },
      { head: t("lag"), ...number(({ lagMs }) => duration(lagMs)) },
      { head: t("failed"), ...number(({ failed }) => count(failed)) },
      {
        head: t("lastError"),
        text: ({ lastError }) =>
          lastError === undefined ? "" : `${dateAndTime(lastError.atMs)} ${lastError.message}`,
      },
      { head: t("address"), text: ({ url }) => url },
      ...(mayAct
        ? [{
          head: h("span", { class: "hidden" }, t("replay")),
          class: "act",
          node: ({ name }: Endpoint, last: HTMLElement | undefined) =>
            last ??
              h("button", {
                type: "button",
                class: "small",
                onclick: () => askReplay(name),
              }, t("replay")),
        }]
        : []),
    ],
  });

  async function look(): Promise<void> {
    try {
      const { endpoints, sender, enabled } = await get<Answer<"hookList">>(apiPath("hooks"));
      table.show(endpoints);
      note.className = "problem";
      note.textContent = enabled && !sender ? t("noSender") : "";
    } catch (error) {
      note.className = "problem";
      note.textContent = messageOf(error);
    }
    note.hidden = note.textContent === "";
  }

  main.replaceChildren(
    h("h1", { class: "hidden" }, t("hooks")),
    h("section", { class: "card" }, h("h2", {}, t("hooks")), note, table.element),
  );
  void look();
  const timer = setInterval(look, periodMs);
  return { stop: () => clearInterval(timer) };
}
