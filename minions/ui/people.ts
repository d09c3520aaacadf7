/** Groups and users: find them, see where they are, and act. */
import { type Answer, get, messageOf } from "./api.ts";
import { apiPath } from "./api_path.ts";
import { idBrowser } from "./browser.ts";
import {
  askBroadcast,
  askClear,
  askKick,
  askMembership,
  askMute,
  askPublish,
  failures,
  type Kind,
} from "./dialogs.ts";
import { badge, type Child, field, h, plainTable } from "./dom.ts";
import { count, dateAndTime } from "./format.ts";
import { type Page, type PageOptions, remember } from "./page.ts";
import { restrictionsOf, restrictionsTable } from "./restrictions.ts";
import { askTrail } from "./trail.ts";
import { t } from "./words.ts";

const historyShown = 10;

export function peoplePage({ main, mayAct, path }: PageOptions): Page {
  const kind = h(
    "select",
    {},
    h("option", { value: "user" }, t("user")),
    h("option", { value: "group" }, t("group")),
  );
  const id = h("input", { required: true, name: "id", autocomplete: "off", spellcheck: "false" });
  const found = h("section", { class: "card found", "aria-label": t("found") });
  const restrictions = h("div");
  let turn = 0;

  function act(label: string, className: string, onclick: () => void): Child {
    if (!mayAct) return undefined;
    return h("button", { type: "button", class: className, onclick }, label);
  }

  async function find(what: Kind, name: string): Promise<void> {
    kind.value = what;
    id.value = name;
    remember("people", what, name);
    const mine = ++turn;
    const shown = await (what === "user" ? userView(name) : groupView(name)).catch(problemOf);
    // Another user or group may have been requested in the meantime.
    if (mine !== turn) return;
    found.replaceChildren(...shown);
    shown[0]?.scrollIntoView({ block: "nearest" });
  }

  function changed(what: Kind, name: string): void {
    find(what, name);
    showRestrictions();
  }

  function heading(what: Kind, name: string, state: HTMLElement, kick: string): HTMLElement {
    const path = apiPath(`${what}s`, name, "kick");
    const title = t(what === "user" ? "askKickUser" : "askKickGroup", name);
    const verb = t(what === "user" ? "kickUser" : "kickGroup", name);
    const done = () => changed(what, name);
    return h(
      "div",
      { class: "row spread" },
      h("h2", {}, `${t(what)} ${name} `, state),
      h(
        "div",
        { class: "row" },
        act(t("publish"), "small", () => askPublish(what, name)),
        what === "user"
          ? act(t("memberships"), "small", () => askMembership(name, done))
          : undefined,
        act(t("clearHistory"), "small", () => askClear(what, name, done)),
        act(t("mute"), "small", () => askMute(what, name, done)),
        act(kick, "small danger", () => askKick({ title, verb, path, canBan: true, done })),
      ),
    );
  }

  async function userView(userId: string): Promise<HTMLElement[]> {
    const [user, held] = await Promise.all([
      get<Answer<"userPlace">>(apiPath("users", userId)),
      restrictionsOf("user", userId, { act, lifted: () => changed("user", userId) }),
    ]);
    const state = user.online ? badge(t("online"), "Live") : badge(t("offline"));
    const known = user.nodes.flatMap(({ connections }) => connections);
    const groupIds = [...new Set(known.flatMap((one) => one.groupIds ?? []))];
    const connections = user.nodes.flatMap(({ node, connections }) =>
      connections.map(({ connectionId, since, transport, address, groups }) => [
        node,
        connectionId,
        dateAndTime(since),
        transport ?? "–",
        address ?? "–",
        count(groups),
        act(t("kick"), "small", () =>
          askKick({
            title: t("askKickConnection", connectionId),
            verb: t("kickConnection"),
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
      t("transport"),
      t("address"),
      { head: t("groups"), class: "number" },
      { head: h("span", { class: "hidden" }, t("kick")), class: "act" },
    ];
    return [
      heading("user", userId, state, t("kick")),
      ...held,
      ...(user.online ? [] : [h("p", { class: "empty" }, t("unknownUser"))]),
      ...facts([
        [t("name"), [...new Set(known.flatMap(({ name }) => name || []))].join(", ")],
        [t("affinity"), [...new Set(known.flatMap(({ affinity }) => affinity || []))].join(", ")],
        [t("app"), [...new Set(known.flatMap(({ app }) => app || []))].join(", ")],
        [t("groups"), groupIds.map((groupId) => linkTo("group", groupId))],
      ]),
      ...(connections.length === 0 ? [] : [plainTable(t("connections"), heads, connections)]),
      missing(user),
      ...await history("user", userId),
    ];
  }

  function linkTo(what: Kind, name: string): HTMLElement {
    const onclick = () => find(what, name);
    return h("button", { type: "button", class: "link", onclick }, name);
  }

  async function groupView(groupId: string): Promise<HTMLElement[]> {
    const [presence, held] = await Promise.all([
      get<Answer<"presence">>(apiPath("groups", groupId, "presence")),
      restrictionsOf("group", groupId, { act, lifted: () => changed("group", groupId) }),
    ]);
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
      ...held,
      missing(presence),
      ...(rows.length === 0 ? [h("p", { class: "empty" }, t("unknownGroup"))] : [parts]),
      ...await history("group", groupId),
    ];
  }

  async function showRestrictions(): Promise<void> {
    restrictions.replaceChildren(
      ...await restrictionsTable(act, showRestrictions).catch(problemOf),
    );
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
    h("section", { class: "card" }, h("h2", {}, t("restrictions")), restrictions),
  );
  showRestrictions();
  const [what, name] = path;
  if ((what === "user" || what === "group") && name !== undefined) find(what, name);
  return {};
}

/** What is known, as a list of terms; nothing where nothing is. */
function facts(known: readonly (readonly [term: string, value: Child])[]): HTMLElement[] {
  const rows = known.filter(([, value]) =>
    value !== "" && !(Array.isArray(value) && value.length === 0)
  );
  if (rows.length === 0) return [];
  return [
    h(
      "dl",
      { class: "facts" },
      rows.map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]),
    ),
  ];
}

function problemOf(error: unknown): HTMLElement[] {
  return [h("p", { class: "problem", role: "alert" }, messageOf(error))];
}

function missing(answer: Pick<Answer<"touched">, "failed">): HTMLElement {
  return h("p", { class: "problem" }, failures(answer));
}

/** The last messages, the newest first; nothing when there are none or they cannot be read. */
async function history(kind: Kind, id: string): Promise<HTMLElement[]> {
  const path = `${apiPath(`${kind}s`, id, "history")}?limit=${historyShown}`;
  const { messages } = await get<Answer<"history">>(path).catch(() => ({ messages: [] }));
  if (messages.length === 0) return [];
  const rows = messages.toReversed().map(({ id: messageId, createTime, fromId, content }) => [
    dateAndTime(createTime),
    `${fromId}`,
    content,
    h(
      "button",
      { type: "button", class: "small", onclick: () => askTrail(messageId, { kind, id }) },
      t("trail"),
    ),
  ]);
  const heads = [
    t("time"),
    t("from"),
    { head: t("content"), class: "content" },
    { head: h("span", { class: "hidden" }, t("trail")), class: "act" },
  ];
  const table = plainTable(t("history"), heads, rows);
  return [h("div", { class: "part" }, h("h3", {}, t("history")), table)];
}
