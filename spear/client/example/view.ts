/** The page: what the chat knows, drawn. */
import type { State } from "@gru/client";
import type { Conversation, Conversations, Line } from "./conversations.ts";

export function element<E extends HTMLElement>(id: string): E {
  return document.getElementById(id) as E;
}

function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className = "",
  ...inside: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...inside);
  return made;
}

export function avatar(name: string, id: string): HTMLElement {
  const made = make("span", "avatar", [...name][0]?.toUpperCase() ?? "?");
  made.ariaHidden = "true";
  made.style.setProperty(
    "--hue",
    `${[...id].reduce((hue, c) => hue * 31 + c.charCodeAt(0), 7) % 360}`,
  );
  return made;
}

/** Once a frame, however much has changed. */
export function drawing(talks: () => Conversations): () => void {
  let isDue = false;
  let drawn: Conversation | undefined;
  return () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      draw(talks(), drawn);
      drawn = talks().current;
    });
  };
}

function draw(talks: Conversations, drawn: Conversation | undefined): void {
  const { current } = talks;
  drawList(talks);
  element("chat").dataset["view"] = current === undefined ? "list" : "talk";
  element("say").hidden = current === undefined;
  element("title").textContent = current?.title ?? "";
  const users = [...current?.group?.users ?? []];
  const present = element<HTMLButtonElement>("present");
  present.hidden = current === undefined;
  present.disabled = current?.group === undefined;
  present.textContent = current?.group === undefined ? "private" : `${users.length} online`;
  element("aside").hidden = current?.group === undefined;
  drawPeople(talks, users);
  drawLines(talks, current, drawn !== current);
  const unread = [...talks.all.values()].reduce((sum, one) => sum + one.unread, 0);
  document.title = unread === 0 ? "Gru chat" : `(${unread}) Gru chat`;
}

function drawList(talks: Conversations): void {
  element("list").replaceChildren(...[...talks.all.values()].map((conversation) => {
    const { title, newest, unread, key } = conversation;
    const last = newest === undefined ? "" : `${newest.name}: ${newest.text}`;
    const who = make("span", "who", make("strong", "", title), make("span", "", last));
    const button = make("button", "", avatar(title, key), who);
    if (unread > 0) {
      const badge = make("span", "badge", `${unread}`);
      badge.ariaLabel = `${unread} unread`;
      button.append(badge);
    }
    button.type = "button";
    button.ariaCurrent = `${conversation === talks.current}`;
    button.onclick = () => talks.open(conversation);
    return make("li", "", button);
  }));
}

function drawPeople(talks: Conversations, users: readonly string[]): void {
  const others = users.map((id) => ({ id, name: talks.nameOf(id) }))
    .sort((a, b) => a.name.localeCompare(b.name));
  element("people").replaceChildren(...others.map(({ id, name }) => {
    const isMe = id === `${talks.me.id}`;
    const button = make("button", "", avatar(name, `u:${id}`), isMe ? `${name} (you)` : name);
    button.type = "button";
    button.disabled = isMe;
    button.onclick = () => talks.open(talks.person(id));
    return make("li", "", button);
  }));
}

function drawLines(
  talks: Conversations,
  current: Conversation | undefined,
  isOther: boolean,
): void {
  const list = element("lines");
  const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
  if (current === undefined) {
    list.replaceChildren(make("li", "empty", "Choose a conversation"));
    return;
  }
  list.replaceChildren(...current.lines.map((line) => lineOf(talks, line)));
  if (isAtEnd || isOther) list.scrollTop = list.scrollHeight;
}

const states = { sending: "sending …", sent: "✓", failed: "not sent" } as const;

function lineOf(talks: Conversations, { kind, fromId, name, text, at, state }: Line): HTMLElement {
  if (kind === "hello") return make("li", "note", `${name} says hello`);
  if (kind === "missed") return make("li", "note", text);
  const isMine = fromId === `${talks.me.id}`;
  const time = new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const small = make("small", "", isMine ? `${time} ${states[state]}` : time);
  const line = make("li", `line ${isMine ? `mine ${state}` : ""}`);
  if (!isMine) line.append(make("b", "", name));
  line.append(text, small);
  return line;
}

/** Counts down while it is offline. */
export function showState(state: () => State): () => void {
  const all = document.querySelectorAll<HTMLElement>(".state");
  let timer: ReturnType<typeof setInterval> | undefined;
  const show = () => {
    const now = state();
    for (const shown of all) {
      shown.dataset["state"] = now.name;
      shown.title = "why" in now ? now.why?.message ?? "" : "";
      shown.textContent = textOf(now);
    }
    clearInterval(timer);
    if (now.name === "offline") timer = setInterval(show, 1000);
  };
  show();
  return show;
}

function textOf(state: State): string {
  switch (state.name) {
    case "online":
      return `online on ${state.node}`;
    case "connecting":
      return "connecting …";
    case "closed":
      return state.why?.message ?? "closed";
    case "offline":
      return `offline, again in ${Math.max(0, Math.ceil((state.nextAt - Date.now()) / 1000))} s`;
  }
}
