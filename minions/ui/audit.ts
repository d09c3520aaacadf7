/** Who commanded what, and what happened to programs: the audit log of stat's HTTP API, the newest first. */
import { type Answer, get, messageOf } from "./api.ts";
import { apiPath } from "./api_path.ts";
import { h, plainTable } from "./dom.ts";
import { dateAndTime } from "./format.ts";
import type { Page, PageOptions } from "./page.ts";
import { t } from "./words.ts";

const perPage = 100;
const changes = ["joined", "draining", "undrained", "left", "died"] as const;

function shownCommand(command: string): string {
  if (command === "wrong key") return t("wrongKey");
  if (command === "wrong password") return t("wrongPassword");
  const change = changes.find((kind) => kind === command);
  return change === undefined ? command : t(change);
}

function shownCaller({ via, who }: Answer<"auditLog">["entries"][number]): string {
  const name = who === "unknown" ? t("stateUnknown") : who;
  return via === "api" ? `${name} (API)` : name;
}

export function auditPage({ main }: PageOptions): Page {
  const entries: Answer<"auditLog">["entries"] = [];
  const list = h("div", { class: "part", role: "status" }, t("loading"));
  const more = h("button", { type: "button", hidden: true, onclick: () => read() }, t("more"));

  async function read(): Promise<void> {
    const last = entries.at(-1)?.at;
    const query = new URLSearchParams({ limit: `${perPage}`, ...last && { before: `${last}` } });
    try {
      const page = await get<Answer<"auditLog">>(`${apiPath("audit")}?${query}`);
      entries.push(...page.entries);
      more.hidden = page.entries.length < perPage;
      list.replaceChildren(entries.length === 0 ? empty() : table());
    } catch (error) {
      list.replaceChildren(h("p", { class: "problem" }, messageOf(error)));
    }
  }

  const empty = () => h("p", { class: "empty" }, t("noCommands"));
  const table = () =>
    plainTable(
      t("audit"),
      [t("time"), t("who"), t("address"), t("command"), t("onWhom"), t("details"), t("result")],
      entries.map((entry) => [
        dateAndTime(entry.at),
        shownCaller(entry),
        entry.address,
        shownCommand(entry.command),
        entry.target,
        entry.details,
        entry.result,
      ]),
    );

  main.replaceChildren(
    h("h1", { class: "hidden" }, t("audit")),
    h(
      "section",
      { class: "card" },
      h("h2", {}, t("audit")),
      list,
      h("div", { class: "row" }, more),
    ),
  );
  void read();
  return {};
}
