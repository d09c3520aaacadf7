/** Simulated clients, side by side: real socket.io connections from this browser to the spears. */
import { field, get, h, setText, timeOfDay } from "./dom.js";
import { t } from "./words.js";

const linesKept = 200;

export function clientPage({ main }) {
  const cards = h("div", { class: "clients" });
  const clients = new Set();
  let made = 0;
  let spears = [];
  function add() {
    const client = clientCard(++made, () => {
      clients.delete(client);
      client.element.remove();
    });
    clients.add(client);
    client.offer(spears);
    cards.append(client.element);
  }
  main.append(
    h("h1", { class: "hidden" }, t("client")),
    cards,
    h("button", { type: "button", class: "wide", onclick: add }, t("addClient")),
  );
  add();
  add();
  return {
    update({ nodes = [] }) {
      spears = nodes.filter(({ address }) => address !== null);
      for (const client of clients) client.offer(spears);
    },
    stop: () => clients.forEach((client) => client.stop()),
  };
}

function clientCard(number, remove) {
  const by = h("select", {}, h("option", { value: "" }, t("throughTicket")));
  const userId = h("input", { value: `${number}`, inputmode: "numeric", autocomplete: "off" });
  const token1 = h("input", { value: "any", autocomplete: "off" });
  const group = h("input", { value: "10", autocomplete: "off", spellcheck: "false" });
  const toKind = h("select", {
    "aria-label": t("to"),
    onchange: () => toId.disabled = toKind.value === "self",
  }, ["group", "user", "self"].map((kind) => h("option", { value: kind }, t(kind))));
  const toId = h("input", {
    value: "10",
    "aria-label": t("id"),
    autocomplete: "off",
    spellcheck: "false",
  });
  const content = h("input", {
    value: `hello from ${number}`,
    "aria-label": t("content"),
    autocomplete: "off",
  });
  const state = h("span", { class: "badge", role: "status" }, t("notConnected"));
  const connectButton = h("button", { type: "submit", class: "primary" }, t("connect"));
  const later = [
    h("button", { type: "button", onclick: () => join("subscribe") }, t("subscribe")),
    h("button", { type: "button", onclick: () => join("unsubscribe") }, t("unsubscribe")),
    h("button", { type: "button", onclick: online }, t("askOnline")),
    h("button", { type: "submit", class: "primary" }, t("send")),
  ];
  const log = h("ol", { class: "log", tabindex: "0", "aria-label": t("log") });
  let socket;

  function say(kind, text) {
    log.prepend(
      h("li", { "data-kind": kind }, h("time", {}, timeOfDay(Date.now())), h("span", {}, text)),
    );
    while (log.children.length > linesKept) log.lastElementChild.remove();
  }
  function showState(text, connected) {
    setText(state, text);
    state.dataset.state = connected ? "Live" : "Left";
    for (const button of later) button.disabled = !connected;
    setText(connectButton, t(socket === undefined ? "connect" : "disconnect"));
  }
  function stop() {
    const leaving = socket;
    socket = undefined;
    leaving?.disconnect();
    showState(t("notConnected"), false);
  }
  /** An id as clients send it: a number where it is one. */
  const idOf = (text) => /^\d{1,15}$/.test(text.trim()) ? Number(text) : text.trim();
  async function request(event, argument) {
    const result = await socket?.timeout(10_000).emitWithAck(event, argument)
      .catch((error) => ({ success: false, msg: error.message }));
    if (result === undefined) return undefined;
    if (!result.success) say("problem", `${event}: ${result.msg}`);
    return result.success ? result.data ?? {} : undefined;
  }

  async function toggle(event) {
    event.preventDefault();
    if (socket !== undefined) return stop();
    const claims = {
      id: userId.value.trim(),
      name: `user${userId.value.trim()}`,
      appType: "1",
      token1: token1.value,
      token2: "",
    };
    let address = by.value;
    if (address === "") {
      const query = new URLSearchParams({
        userId: claims.id,
        userName: claims.name,
        appType: claims.appType,
        token1: claims.token1,
      });
      const ticket = await get(`/ticket?${query}`).catch((error) => ({ msg: error.message }));
      if (!ticket.success) return say("problem", `ticket: ${ticket.msg}`);
      address = ticket.data.addr;
      claims.token2 = ticket.data.token;
      say("note", `ticket: ${ticket.data.name} ${address}`);
    }
    const opened = socket = globalThis.io(address, {
      transports: ["websocket"],
      forceNew: true,
      reconnection: false,
    });
    showState(t("reconnecting"), false);
    opened.on("connect", async () => {
      if (await request("auth", claims) === undefined) return;
      say("ok", "auth");
      showState(t("connectedTo", new URL(address).host), true);
    });
    opened.on("msg", (message) => {
      const { fromId, msgType, target, content, seq } = message;
      const to = msgType === 2
        ? t("everyone")
        : `${t(msgType === 1 ? "group" : "user")} ${target.id}`;
      say("message", `${fromId} → ${to}: ${content}${seq === undefined ? "" : `  #${seq}`}`);
    });
    for (const name of ["kicked", "missed", "move", "presence"]) {
      opened.on(name, (argument) => say("problem", `${name} ${JSON.stringify(argument)}`));
    }
    opened.on("connect_error", (error) => {
      say("problem", error.message);
      if (socket === opened) stop();
    });
    opened.on("disconnect", (reason) => {
      say("note", reason);
      if (socket === opened) stop();
    });
  }
  async function join(event) {
    const argument = { userId: idOf(userId.value), subscribeGroups: [{ id: idOf(group.value) }] };
    if (await request(event, argument)) say("ok", `${event} ${group.value}`);
  }
  async function online() {
    const data = await request("online", idOf(group.value));
    if (data) say("ok", `online ${group.value}: ${data.userIds.join(", ")}`);
  }
  async function send(event) {
    event.preventDefault();
    const type = toKind.value === "group" ? 1 : 0;
    const id = idOf(toKind.value === "self" ? userId.value : toId.value);
    const data = await request("msg", { type, target: { id }, content: content.value });
    if (data) say("ok", `msg: id ${data.id}, seq ${data.seq}`);
  }

  const element = h(
    "section",
    { class: "card client", "aria-label": t("clientN", number) },
    h(
      "div",
      { class: "row spread" },
      h("h2", {}, t("clientN", number), " ", state),
      h("button", {
        type: "button",
        class: "small",
        onclick: () => {
          stop();
          remove();
        },
      }, t("remove")),
    ),
    h(
      "form",
      { class: "grid", onsubmit: toggle },
      field(t("by"), by),
      field(t("userId"), userId),
      field(t("token1"), token1),
      connectButton,
    ),
    h("div", { class: "grid" }, field(t("groupId"), group), later.slice(0, 3)),
    h("form", { class: "send", onsubmit: send }, toKind, toId, content, later[3]),
    log,
  );
  showState(t("notConnected"), false);
  return {
    element,
    stop,
    offer(spears) {
      const known = [...by.options].slice(1).map(({ value }) => value).join();
      if (known === spears.map(({ address }) => address).join()) return;
      const chosen = by.value;
      by.replaceChildren(
        by.options[0],
        ...spears.map(({ node, address }) => h("option", { value: address }, `${node} ${address}`)),
      );
      by.value = spears.some(({ address }) => address === chosen) ? chosen : "";
    },
  };
}
