/** Simulated clients, side by side: real socket.io connections from this browser to the spears. */
import { badge, field, h, keepOptions, setText } from "./dom.ts";
import { timeOfDay } from "./format.ts";
import type { Page, PageOptions } from "./page.ts";
import { type Message, SimulatedClient } from "./simulated_client.ts";
import { t } from "./words.ts";

const linesKept = 200;

interface Spear {
  readonly node: string;
  readonly address: string;
}

interface Card {
  readonly element: HTMLElement;
  /** Spears that can be chosen. */
  offer(spears: readonly Spear[]): void;
  stop(): void;
}

export function clientPage({ main }: PageOptions): Page {
  const list = h("div", { class: "clients" });
  const cards = new Set<Card>();
  let made = 0;
  let spears: readonly Spear[] = [];
  function add(): void {
    const card = clientCard(++made, () => {
      card.stop();
      cards.delete(card);
      card.element.remove();
    });
    cards.add(card);
    card.offer(spears);
    list.append(card.element);
  }
  main.append(
    h("h1", { class: "hidden" }, t("client")),
    list,
    h("button", { type: "button", class: "wide", onclick: add }, t("addClient")),
  );
  add();
  add();
  return {
    update(snapshot) {
      if (!("nodes" in snapshot)) return;
      spears = snapshot.nodes.flatMap(({ node, address }) =>
        address === null ? [] : [{ node, address }]
      );
      for (const card of cards) card.offer(spears);
    },
    stop: () => cards.forEach((card) => card.stop()),
  };
}

function clientCard(number: number, remove: () => void): Card {
  const plain = { autocomplete: "off", spellcheck: "false" };
  const by = h("select", {}, h("option", { value: "" }, t("throughTicket")));
  const userId = h("input", { value: number, inputmode: "numeric", ...plain });
  const token1 = h("input", { value: "any", ...plain });
  const group = h("input", { value: "10", ...plain });
  const toKind: HTMLSelectElement = h(
    "select",
    { "aria-label": t("to"), onchange: () => toId.disabled = toKind.value === "self" },
    (["group", "user", "self"] as const).map((kind) => h("option", { value: kind }, t(kind))),
  );
  const toId = h("input", { value: "10", "aria-label": t("id"), ...plain });
  const content = h("input", {
    value: `hello from ${number}`,
    "aria-label": t("content"),
    autocomplete: "off",
  });
  const state = badge(t("notConnected"));
  const connect = h("button", { type: "submit", class: "primary" }, t("connect"));
  const forGroup = [
    h("button", { type: "button", onclick: () => join("subscribe") }, t("subscribe")),
    h("button", { type: "button", onclick: () => join("unsubscribe") }, t("unsubscribe")),
    h("button", { type: "button", onclick: askOnline }, t("askOnline")),
  ];
  const send = h("button", { type: "submit", class: "primary" }, t("send"));
  const log = h("ol", { class: "log", tabindex: "0", "aria-label": t("log") });

  function say(kind: "ok" | "note" | "problem" | "message", text: string): void {
    const line = h("li", { "data-kind": kind }, h("time", {}, timeOfDay(Date.now())));
    line.append(h("span", {}, text));
    log.prepend(line);
    while (log.children.length > linesKept) log.lastElementChild?.remove();
  }
  function showMessage({ fromId, msgType, target, content, seq }: Partial<Message>): void {
    const to = msgType === 2
      ? t("everyone")
      : `${t(msgType === 1 ? "group" : "user")} ${target?.id}`;
    say("message", `${fromId} → ${to}: ${content}${seq === undefined ? "" : `  #${seq}`}`);
  }
  function showState(now: "off" | "connecting" | "on", address: string): void {
    const text = {
      off: () => t("notConnected"),
      connecting: () => t("connecting"),
      on: () => t("connectedTo", new URL(address).host),
    };
    setText(state, text[now]());
    state.dataset.state = now === "on" ? "Live" : "";
    for (const button of [...forGroup, send]) button.disabled = now !== "on";
    setText(connect, t(now === "off" ? "connect" : "disconnect"));
  }
  const client = new SimulatedClient({ onState: showState, onMessage: showMessage, say });

  function toggle(event: Event): void {
    event.preventDefault();
    if (!client.isOff) return client.disconnect();
    void client.connect({
      userId: userId.value.trim(),
      token1: token1.value,
      address: by.value,
    });
  }
  async function join(event: "subscribe" | "unsubscribe"): Promise<void> {
    const argument = { userId: idOf(userId.value), subscribeGroups: [{ id: idOf(group.value) }] };
    if (await client.request(event, argument)) say("ok", `${event} ${group.value}`);
  }
  async function askOnline(): Promise<void> {
    const data = await client.request<{ userIds: unknown[] }>("online", idOf(group.value));
    if (data) say("ok", `online ${group.value}: ${data.userIds.join(", ")}`);
  }
  async function sendMessage(event: Event): Promise<void> {
    event.preventDefault();
    const type = toKind.value === "group" ? 1 : 0;
    const id = idOf(toKind.value === "self" ? userId.value : toId.value);
    const argument = { type, target: { id }, content: content.value };
    const data = await client.request<{ id: string; seq: number }>("msg", argument);
    if (data) say("ok", `msg: id ${data.id}, seq ${data.seq}`);
  }

  const element = h(
    "section",
    { class: "card client", "aria-label": t("clientN", number) },
    h(
      "div",
      { class: "row spread" },
      h("h2", {}, t("clientN", number), " ", h("span", { role: "status" }, state)),
      h("button", { type: "button", class: "small", onclick: remove }, t("remove")),
    ),
    h(
      "form",
      { class: "grid", onsubmit: toggle },
      field(t("by"), by),
      field(t("userId"), userId),
      field(t("token1"), token1),
      connect,
    ),
    h("div", { class: "grid" }, field(t("groupId"), group), forGroup),
    h("form", { class: "send", onsubmit: sendMessage }, toKind, toId, content, send),
    log,
  );
  showState("off", "");
  return {
    element,
    offer: (spears) =>
      keepOptions(
        by,
        spears.map(({ node, address }) => ({ value: address, label: `${node} ${address}` })),
      ),
    stop: () => client.disconnect(),
  };
}

/** An id as clients send it: a number where it is one. */
function idOf(text: string): number | string {
  const id = text.trim();
  return /^\d{1,15}$/.test(id) ? Number(id) : id;
}
