/** Groups and users: find them, see where they are, and act. */
import { type Answer, apiPath, get, messageOf } from "./api.ts";
import { idBrowser } from "./browser.ts";
import { askBroadcast, askKick, askLift, askPublish, failures, type Kind } from "./dialogs.ts";
import { badge, type Child, field, h, plainTable } from "./dom.ts";
import { count, dateAndTime } from "./format.ts";
import type { Page, PageOptions } from "./page.ts";
import { t } from "./words.ts";

const historyShown = 10;

export function peoplePage({ main, mayAct }: PageOptions): Page {
  const kind = h(
    "select",
    {},
    h("option", { value: "user" }, t("user")),
    h("option", { value: "group" }, t("group")),
  );
  const id = h("input", { required: true, name: "id", autocomplete: "off", spellcheck: "false" });
  const found = h("section", { class: "card found", "aria-label": t("found") });
  const bans = h("div");
  let turn = 0;

  function act(label: string, className: string, onclick: () => void): Child {
    if (!mayAct) return undefined;
    return h("button", { type: "button", class: className, onclick }, label);
  }

  async function find(what: Kind, name: string): Promise<void> {
    kind.value = what;
    id.value = name;
    const mine = ++turn;
    const shown = await (what === "user" ? userView(name) : groupView(name)).catch(problemOf);
    // Another one may have been asked for meanwhile.
    if (mine !== turn) return;
    found.replaceChildren(...shown);
    shown[0]?.scrollIntoView({ block: "nearest" });
  }

  function heading(what: Kind, name: string, state: HTMLElement, kick: string): HTMLElement {
    const path = apiPath(`${what}s`, name, "kick");
    const title = t(what === "user" ? "askKickUser" : "askKickGroup", name);
    const done = () => {
      find(what, name);
      showBans();
    };
    return h(
      "div",
      { class: "row spread" },
      h("h2", {}, `${t(what)} ${name} `, state),
      h(
        "div",
        { class: "row" },
        act(t("publish"), "small", () => askPublish(what, name)),
        act(kick, "small danger", () => askKick({ title, path, canBan: true, done })),
      ),
    );
  }

  async function userView(userId: string): Promise<HTMLElement[]> {
    const user = await get<Answer<"userPlace">>(apiPath("users", userId));
    const state = user.online ? badge(t("online"), "Live") : badge(t("offline"));
    const connections = user.nodes.flatMap(({ node, connections }) =>
      connections.map(({ connectionId, since, groups }) => [
        node,
        connectionId,
        dateAndTime(since),
        count(groups),
        act(t("kick"), "small", () =>
          askKick({
            title: t("askKickConnection", connectionId),
            path: apiPath("connections", connectionId, "kick"),
            canBan: false,
            done: () => find("user", userId),
          })),
      ])
    );
    const heads = [
      t("node"),
      t("connection"),
      t("since"),
      { head: t("groups"), class: "number" },
      { head: h("span", { class: "hidden" }, t("kick")), class: "act" },
    ];
    return [
      heading("user", userId, state, t("kick")),
      ...(connections.length === 0 ? [] : [plainTable(t("connections"), heads, connections)]),
      missing(user),
      ...await history("users", userId),
    ];
  }

  async function groupView(groupId: string): Promise<HTMLElement[]> {
    const presence = await get<Answer<"presence">>(apiPath("groups", groupId, "presence"));
    const state = badge(
      `${count(presence.users)} ${t("usersOnline")}`,
      presence.users > 0 ? "Live" : undefined,
    );
    const heads = [
      t("node"),
      { head: t("users"), class: "number" },
      { head: t("connections"), class: "number" },
    ];
    const rows = presence.nodes.map(({ node, users, connections }) => [
      node,
      count(users),
      count(connections),
    ]);
    const users = idBrowser({
      kind: "user",
      path: apiPath("groups", groupId, "users"),
      choose: (name) => find("user", name),
    });
    const parts = h(
      "div",
      { class: "columns even" },
      h("div", { class: "part" }, h("h3", {}, t("nodes")), plainTable(t("nodes"), heads, rows)),
      h("div", { class: "part" }, h("h3", {}, t("users")), users),
    );
    return [
      heading("group", groupId, state, t("kickAll")),
      missing(presence),
      ...(rows.length === 0 ? [] : [parts]),
      ...await history("groups", groupId),
    ];
  }

  async function showBans(): Promise<void> {
    bans.replaceChildren(...await bansView().catch(problemOf));
  }
  async function bansView(): Promise<HTMLElement[]> {
    const { bans } = await get<Answer<"banList">>(apiPath("bans"));
    if (bans.length === 0) return [h("p", { class: "empty" }, t("noBans"))];
    const rows = bans.map(({ kind, id, reason, until }) => [
      `${t(kind)} ${id}`,
      reason,
      dateAndTime(until),
      act(t("lift"), "small", () => askLift(kind, id, showBans)),
    ]);
    const heads = [
      t("what"),
      t("reason"),
      t("until"),
      { head: h("span", { class: "hidden" }, t("lift")), class: "act" },
    ];
    return [plainTable(t("bans"), heads, rows)];
  }

  function onsubmit(event: Event): void {
    event.preventDefault();
    find(kind.value === "group" ? "group" : "user", id.value.trim());
  }
  main.append(
    h("h1", { class: "hidden" }, t("people")),
    h(
      "section",
      { class: "card" },
      h(
        "div",
        { class: "row spread" },
        h(
          "form",
          { class: "row", onsubmit },
          field(t("what"), kind),
          field(t("id"), id),
          h("button", { class: "primary", type: "submit" }, t("find")),
        ),
        act(t("broadcast"), "", askBroadcast),
      ),
    ),
    found,
    h(
      "div",
      { class: "columns even" },
      (["group", "user"] as const).map((what) =>
        h(
          "section",
          { class: "card" },
          h("h2", {}, t(`${what}s`)),
          idBrowser({
            kind: what,
            path: apiPath(`${what}s`),
            choose: (name) => find(what, name),
          }),
        )
      ),
    ),
    h("section", { class: "card" }, h("h2", {}, t("bans")), bans),
  );
  showBans();
  return {};
}

function problemOf(error: unknown): HTMLElement[] {
  return [h("p", { class: "problem", role: "alert" }, messageOf(error))];
}

function missing(answer: Pick<Answer<"touched">, "failed">): HTMLElement {
  return h("p", { class: "problem" }, failures(answer));
}

/** The last messages, the newest first; nothing when there are none or they cannot be had. */
async function history(kinds: "users" | "groups", id: string): Promise<HTMLElement[]> {
  const path = `${apiPath(kinds, id, "history")}?limit=${historyShown}`;
  const { messages } = await get<Answer<"history">>(path).catch(() => ({ messages: [] }));
  if (messages.length === 0) return [];
  const rows = messages.toReversed().map(({ createTime, fromId, content }) => [
    dateAndTime(createTime),
    `${fromId}`,
    content,
  ]);
  const heads = [t("time"), t("from"), { head: t("content"), class: "content" }];
  const table = plainTable(t("history"), heads, rows);
  return [h("div", { class: "part" }, h("h3", {}, t("history")), table)];
}
