/** Simulated clients, side by side: real connections from this browser to the spears, by the client library. */
import { call, messageOf } from "./api.ts";
import { badge, field, h, keepOptions, setText } from "./dom.ts";
import { timeOfDay } from "./format.ts";
import type { Page, PageOptions } from "./page.ts";
import { SimulatedClient, type SimulatedClientOptions } from "./simulated_client.ts";
import { t } from "./words.ts";

const linesKept = 200;

interface Spear {
  readonly node: string;
  readonly address: string;
}

type Shown = Parameters<SimulatedClientOptions["onMessage"]>[0];

interface Card {
  readonly element: HTMLElement;
  /** The spears that can be chosen. */
  offer(spears: readonly Spear[]): void;
  stop(): void;
}

export function clientPage({ main, makesTokens }: PageOptions): Page {
  const list = h("div", { class: "clients" });
  const cards = new Set<Card>();
  let made = 0;
  let spears: readonly Spear[] = [];
  function add(): void {
    const card = clientCard(++made, makesTokens, () => {
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
      spears = (snapshot.known?.nodes ?? []).flatMap(({ node, address }) =>
        address === null ? [] : [{ node, address }]
      );
      for (const card of cards) card.offer(spears);
    },
    stop: () => cards.forEach((card) => card.stop()),
  };
}

function clientCard(number: number, makesTokens: boolean, remove: () => void): Card {
  const plain = { autocomplete: "off", spellcheck: "false" };
  const by = h("select", {}, h("option", { value: "" }, t("throughTicket")));
  const userId = h("input", { value: number, inputmode: "numeric", ...plain });
  const token1 = h("input", { value: makesTokens ? "" : "any", ...plain });
  const makeToken = h("button", { type: "button", onclick: fillToken }, t("makeToken"));
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
    h("button", { type: "button", onclick: () => client.subscribe(groupId()) }, t("subscribe")),
    h("button", { type: "button", onclick: () => client.unsubscribe(groupId()) }, t("unsubscribe")),
    h("button", { type: "button", onclick: () => client.online(groupId()) }, t("askOnline")),
  ];
  const groupId = () => group.value.trim();
  const send = h("button", { type: "submit", class: "primary" }, t("send"));
  const log = h("ol", { class: "log", tabindex: "0", "aria-label": t("log") });

  function say(kind: "ok" | "note" | "problem" | "message", text: string): void {
    const line = h("li", { "data-kind": kind }, h("time", {}, timeOfDay(Date.now())));
    line.append(h("span", {}, text));
    log.prepend(line);
    while (log.children.length > linesKept) log.lastElementChild?.remove();
  }
  function showMessage({ fromId, target, content, seq }: Shown): void {
    const to = target === undefined ? t("everyone") : `${t(target.kind)} ${target.id}`;
    say("message", `${fromId} → ${to}: ${content}${seq === undefined ? "" : `  #${seq}`}`);
  }
  function showState(now: "off" | "connecting" | "on", node: string): void {
    const text = {
      off: () => t("notConnected"),
      connecting: () => t("connecting"),
      on: () => t("connectedTo", node),
    };
    setText(state, text[now]());
    state.dataset.state = now === "on" ? "Live" : "";
    for (const button of [...forGroup, send]) button.disabled = now !== "on";
    setText(connect, t(now === "off" ? "connect" : "disconnect"));
  }
  const client = new SimulatedClient({ onState: showState, onMessage: showMessage, say });

  async function fillToken(): Promise<void> {
    try {
      const body = { userId: userId.value.trim() };
      token1.value = (await call<{ readonly token: string }>("POST", "/token", body)).token;
      say("ok", t("tokenMade", body.userId));
    } catch (error) {
      say("problem", messageOf(error));
    }
  }
  function toggle(event: Event): void {
    event.preventDefault();
    if (!client.isOff) return client.disconnect();
    client.connect({ userId: userId.value.trim(), token1: token1.value, node: by.value });
  }
  function sendMessage(event: Event): void {
    event.preventDefault();
    const id = toKind.value === "self" ? userId.value : toId.value;
    void client.send(toKind.value === "group" ? "group" : "user", id.trim(), content.value);
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
      { class: makesTokens ? "grid five" : "grid", onsubmit: toggle },
      field(t("by"), by),
      field(t("userId"), userId),
      field(t("token1"), token1),
      makesTokens ? makeToken : undefined,
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
        spears.map(({ node, address }) => ({ value: node, label: `${node} ${address}` })),
      ),
    stop: () => client.disconnect(),
  };
}
