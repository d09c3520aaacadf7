/** Lists groups or users by the beginning of their ids, page by page; each links to its details. */
import { type Answer, get, messageOf } from "./api.ts";
import type { Kind } from "./dialogs.ts";
import { h, headRow, scrolling, setText } from "./dom.ts";
import { count } from "./format.ts";
import { t } from "./words.ts";

interface BrowserOptions {
  readonly kind: Kind;
  /** A path of stat's HTTP API. */
  readonly path: string;
  readonly choose: (id: string) => void;
}

interface Found {
  readonly id: string;
  readonly on: readonly string[];
}

const perPage = 50;
const typingMs = 150;

export function idBrowser({ kind, path, choose }: BrowserOptions): HTMLElement {
  const search = h("input", {
    type: "search",
    placeholder: t("startsWith"),
    "aria-label": `${t(kind)}: ${t("startsWith")}`,
    autocomplete: "off",
    oninput: () => {
      clearTimeout(typing);
      typing = setTimeout(() => load(""), typingMs);
    },
  });
  const rows = h("tbody");
  const more = h("button", {
    type: "button",
    class: "small",
    hidden: true,
    onclick: () => load(cursor),
  }, t("more"));
  const note = h("p", { class: "empty", role: "status", hidden: true });
  let cursor = "";
  let typing: ReturnType<typeof setTimeout> | undefined;
  let turn = 0;

  async function load(after: string): Promise<void> {
    const mine = ++turn;
    const query = new URLSearchParams({
      search: search.value,
      cursor: after,
      limit: `${perPage}`,
    });
    let page: { found: readonly Found[]; next: string | null };
    let problem = "";
    try {
      page = pageOf(await get(`${path}?${query}`));
    } catch (error) {
      page = { found: [], next: null };
      problem = messageOf(error);
    }
    // A later search has begun in the meantime.
    if (mine !== turn) return;
    if (after === "") rows.replaceChildren();
    rows.append(...page.found.map(({ id, on }) => {
      const link = h("button", { type: "button", class: "link", onclick: () => choose(id) }, id);
      return h("tr", {}, h("td", {}, link), h("td", {}, on.join(", ")));
    }));
    cursor = page.next ?? "";
    more.hidden = page.next === null;
    note.hidden = problem === "" && rows.children.length > 0;
    note.className = problem === "" ? "empty" : "problem";
    setText(note, problem === "" ? t("nothingFound") : problem);
  }

  load("");
  const table = h("table", {}, headRow([{ head: t(kind) }, { head: t("on") }]), rows);
  return h(
    "div",
    { class: "browser" },
    search,
    scrolling(t(`${kind}s`), "tall", table, note),
    more,
  );
}

function pageOf(answer: Answer<"userPage"> | Answer<"groupPage">) {
  const found = "users" in answer
    ? answer.users.map(({ userId, nodes }) => ({ id: userId, on: nodes }))
    : answer.groups.map(({ groupId, nodes }) => ({
      id: groupId,
      on: nodes.map(({ node, users }) => `${node} (${count(users)})`),
    }));
  return { found, next: answer.next };
}
