/** Groups and users: find them, see where they are, and act. */
import { call, count, dateAndTime, field, get, h, setText, timeOfDay } from "./dom.js";
import { t } from "./words.js";

const perPage = 50;

/** A confirmation with its fields; then the result, or the error, in the same place. */
export function ask({ title, note, fields = [], run, told, done }) {
  const result = h("p", { class: "result", role: "status" });
  const cancel = h("button", { type: "button", onclick: () => dialog.close() }, t("cancel"));
  const confirm = h("button", { type: "submit", class: "primary" }, t("confirm"));
  const dialog = h(
    "dialog",
    { "aria-label": title },
    h(
      "form",
      { method: "dialog", onsubmit: submit },
      h("h2", {}, title),
      note === undefined ? undefined : h("p", { class: "light" }, note),
      fields,
      result,
      h("div", { class: "row end" }, cancel, confirm),
    ),
  );
  async function submit(event) {
    event.preventDefault();
    confirm.disabled = true;
    result.className = "result";
    try {
      const answer = await run();
      setText(result, told(answer) + failures(answer));
      confirm.hidden = true;
      setText(cancel, t("close"));
      cancel.focus();
      done?.();
    } catch (error) {
      result.className = "result problem";
      setText(result, error.message);
    }
    confirm.disabled = false;
  }
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

function failures({ failed = [] }) {
  return failed.length === 0
    ? ""
    : ` · ${t("failedNodes")}: ${failed.map(({ node }) => node).join(", ")}`;
}

const touched = ({ connections }) => `${count(connections)} ${t("touched")}`;

export function askPublish(kind, id) {
  const content = h("textarea", { rows: "3", required: true });
  // One for the dialog: pressing the button again after an error sends nothing twice.
  const key = crypto.randomUUID();
  ask({
    title: t("askPublish", `${t(kind)} ${id}`),
    fields: [field(t("content"), content)],
    run: () =>
      call("POST", `/api/${kind}s/${encodeURIComponent(id)}/messages`, { content: content.value }, {
        "idempotency-key": key,
      }),
    told: ({ id, seq }) => `${t("accepted")}: id ${id}, seq ${seq}`,
  });
}

function askKick(title, path, done, withBan = true) {
  const reason = h("input", { maxlength: "256" });
  const minutes = h("input", { type: "number", min: "0", max: "5000000", step: "1", value: "0" });
  ask({
    title,
    fields: [field(t("reason"), reason), withBan ? field(t("banMinutes"), minutes) : undefined],
    run: () =>
      call("POST", path, {
        reason: reason.value,
        ...(withBan && Number(minutes.value) > 0 ? { banMs: Number(minutes.value) * 60_000 } : {}),
      }),
    told: touched,
    done,
  });
}

export function peoplePage({ main, mayAct }) {
  const kind = h(
    "select",
    {},
    h("option", { value: "user" }, t("user")),
    h("option", { value: "group" }, t("group")),
  );
  const id = h("input", { required: true, name: "id", autocomplete: "off", spellcheck: "false" });
  const found = h("div", { class: "found" });
  const bans = h("div");

  async function guarded(place, work) {
    try {
      await work();
    } catch (error) {
      place.replaceChildren(h("p", { class: "problem", role: "alert" }, error.message));
    }
  }
  const act = (label, onclick, className = "small") =>
    mayAct ? h("button", { type: "button", class: className, onclick }, label) : undefined;

  function find(what, name) {
    kind.value = what;
    id.value = name;
    guarded(found, () => what === "user" ? showUser(name) : showGroup(name));
  }

  async function showUser(userId) {
    const path = `/api/users/${encodeURIComponent(userId)}`;
    const { online, nodes, failed } = await get(path);
    const again = () => find("user", userId);
    const connections = nodes.flatMap((one) =>
      one.connections.map((each) => ({ ...each, node: one.node }))
    );
    found.replaceChildren(
      h(
        "div",
        { class: "row spread" },
        h(
          "h3",
          {},
          `${t("user")} ${userId} `,
          h(
            "span",
            { class: "badge", "data-state": online ? "Live" : "Left" },
            t(online ? "online" : "offline"),
          ),
        ),
        h(
          "div",
          { class: "row" },
          act(t("publish"), () => askPublish("user", userId)),
          act(t("kick"), () =>
            askKick(t("askKickUser", userId), `${path}/kick`, () => {
              again();
              showBans();
            }), "small danger"),
        ),
      ),
      connections.length === 0 ? "" : plainTable(
        [t("node"), t("connection"), t("since"), t("groups"), ""],
        connections.map(({ node, connectionId, since, groups }) => [
          node,
          connectionId,
          dateAndTime(since),
          count(groups),
          act(
            t("kick"),
            () =>
              askKick(
                t("askKickConnection", connectionId),
                `/api/connections/${encodeURIComponent(connectionId)}/kick`,
                again,
                false,
              ),
          ) ?? "",
        ]),
      ),
      h("p", { class: "problem" }, failures({ failed }).slice(3)),
      await history(path),
    );
  }

  async function showGroup(groupId) {
    const path = `/api/groups/${encodeURIComponent(groupId)}`;
    const presence = await get(`${path}/presence`);
    const again = () => find("group", groupId);
    found.replaceChildren(
      h(
        "div",
        { class: "row spread" },
        h(
          "h3",
          {},
          `${t("group")} ${groupId} `,
          h(
            "span",
            { class: "badge", "data-state": presence.users > 0 ? "Live" : "Left" },
            `${t("users")} ${count(presence.users)}`,
          ),
        ),
        h(
          "div",
          { class: "row" },
          act(t("publish"), () => askPublish("group", groupId)),
          act(t("kickAll"), () =>
            askKick(t("askKickGroup", groupId), `${path}/kick`, () => {
              again();
              showBans();
            }), "small danger"),
        ),
      ),
      presence.nodes.length === 0 ? "" : plainTable(
        [t("node"), t("users"), t("connections")],
        presence.nodes.map((
          { node, users, connections },
        ) => [node, count(users), count(connections)]),
      ),
      h("p", { class: "problem" }, failures(presence).slice(3)),
      browser({ what: "user", path: `${path}/users` }),
      await history(path),
    );
  }

  async function history(path) {
    const { messages } = await get(`${path}/history?limit=10`).catch(() => ({ messages: [] }));
    if (messages.length === 0) return "";
    return h(
      "div",
      {},
      h("h4", {}, t("history")),
      plainTable(
        [t("time"), t("from"), t("content")],
        messages.reverse().map((
          { createTime, fromId, content },
        ) => [timeOfDay(createTime), `${fromId}`, content]),
      ),
    );
  }

  /** Pages of ids, by prefix; each leads to its place. */
  function browser({ what, path }) {
    const search = h("input", {
      type: "search",
      placeholder: t("startsWith"),
      "aria-label": t("startsWith"),
      autocomplete: "off",
    });
    const rows = h("tbody");
    const more = h("button", {
      type: "button",
      class: "small",
      hidden: true,
      onclick: () => load(),
    }, t("more"));
    const nothing = h("p", { class: "empty", hidden: true }, t("nothingFound"));
    let cursor = "";
    let turn = 0;
    let waiting;
    async function load() {
      const mine = ++turn;
      await guarded(nothing, async () => {
        const query = new URLSearchParams({ search: search.value, cursor, limit: `${perPage}` });
        const page = await get(`${path}?${query}`);
        // A later search has begun meanwhile.
        if (mine !== turn) return;
        if (cursor === "") rows.replaceChildren();
        rows.append(...(page.users ?? page.groups).map((one) => {
          const name = one.userId ?? one.groupId;
          const on = one.nodes.map((node) =>
            node.node === undefined ? node : `${node.node} (${count(node.users)})`
          );
          return h(
            "tr",
            {},
            h(
              "td",
              {},
              h("button", {
                type: "button",
                class: "link",
                onclick: () => {
                  find(what, name);
                  found.scrollIntoView({ block: "nearest" });
                },
              }, name),
            ),
            h("td", {}, on.join(", ")),
          );
        }));
        cursor = page.next ?? "";
        more.hidden = page.next === null;
        nothing.hidden = rows.children.length > 0;
      });
    }
    search.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => {
        cursor = "";
        load();
      }, 150);
    });
    load();
    return h(
      "div",
      { class: "browser" },
      search,
      h(
        "div",
        { class: "scroll tall", tabindex: "0", role: "region", "aria-label": t(`${what}s`) },
        h(
          "table",
          {},
          h(
            "thead",
            {},
            h("tr", {}, h("th", { scope: "col" }, t(what)), h("th", { scope: "col" }, t("on"))),
          ),
          rows,
        ),
        nothing,
      ),
      more,
    );
  }

  async function showBans() {
    await guarded(bans, async () => {
      const { bans: all } = await get("/api/bans");
      bans.replaceChildren(
        all.length === 0 ? h("p", { class: "empty" }, t("noBans")) : plainTable(
          [t("what"), t("reason"), t("until"), ""],
          all.map(({ kind, id, reason, until }) => [
            `${t(kind)} ${id}`,
            reason,
            dateAndTime(until),
            act(t("lift"), () =>
              ask({
                title: t("askLift", `${t(kind)} ${id}`),
                run: () => call("DELETE", `/api/bans/${kind}/${encodeURIComponent(id)}`),
                told: () => t("lifted"),
                done: showBans,
              })) ?? "",
          ]),
        ),
      );
    });
  }

  const content = h("textarea", { rows: "3", required: true });
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
          {
            class: "row",
            onsubmit: (event) => {
              event.preventDefault();
              find(kind.value, id.value.trim());
            },
          },
          field(t("what"), kind),
          field(t("id"), id),
          h("button", { class: "primary", type: "submit" }, t("find")),
        ),
        act(t("broadcast"), () =>
          ask({
            title: t("askBroadcast"),
            fields: [field(t("content"), content)],
            run: () => call("POST", "/api/broadcast", { content: content.value }),
            told: touched,
          }), ""),
      ),
      found,
    ),
    h(
      "div",
      { class: "columns even" },
      h(
        "section",
        { class: "card" },
        h("h2", {}, t("groups")),
        browser({ what: "group", path: "/api/groups" }),
      ),
      h(
        "section",
        { class: "card" },
        h("h2", {}, t("users")),
        browser({ what: "user", path: "/api/users" }),
      ),
    ),
    h("section", { class: "card" }, h("h2", {}, t("bans")), bans),
  );
  showBans();
  return {};
}

function plainTable(heads, rows) {
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": heads[0] },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          heads.map((head) =>
            h(head === "" ? "td" : "th", head === "" ? {} : { scope: "col" }, head)
          ),
        ),
      ),
      h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell) => h("td", {}, cell))))),
    ),
  );
}
