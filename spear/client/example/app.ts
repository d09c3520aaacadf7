/** The example application: a chat on one page, by the library alone. */
import type * as client from "@gru/client";
import { Conversations, type Me } from "./conversations.ts";
import { avatar, drawing, element, showState } from "./view.ts";

const { ticket, canStop }: { readonly ticket: string; readonly canStop: boolean } =
  await (await fetch("config.json")).json();
const { connect }: typeof client = await import(`${ticket}/gru.js`);

/** Each tab is a person of its own, who stays the same when the page is reloaded. */
function me(): Me | undefined {
  const name = new URLSearchParams(location.search).get("name");
  const kept: Me | null = JSON.parse(sessionStorage.getItem("me") ?? "null");
  return kept ?? (name?.trim() ? become(name.trim()) : undefined);
}

function become(name: string): Me {
  const me = { id: 1 + Math.floor(Math.random() * 2 ** 40), name };
  sessionStorage.setItem("me", JSON.stringify(me));
  return me;
}

function start(me: Me): void {
  element("enter").hidden = true;
  element("chat").hidden = false;
  element("me-name").textContent = me.name;
  element("me-avatar").replaceWith(avatar(me.name, `u:${me.id}`));

  const gru = connect({ ticket, user: me, storage: sessionStorage });
  let talks: Conversations | undefined = undefined;
  const draw = drawing(() => talks as unknown as Conversations);
  talks = new Conversations(gru, me, draw);
  gru.on("state", showState(() => gru.state));
  const opened = talks;

  element("back").onclick = () => opened.open(undefined);
  const showPeople = (shown: boolean) => {
    element("chat").dataset["people"] = `${shown}`;
    element("present").ariaExpanded = `${shown}`;
  };
  element("present").onclick = () => showPeople(element("present").ariaExpanded !== "true");
  element("people").addEventListener("click", () => showPeople(false));
  element("leave").onclick = async () => {
    await gru.close();
    sessionStorage.clear();
    location.assign(location.pathname);
  };
  onSubmit("add", "group", (group) => opened.open(opened.group(group)));
  onSubmit("say", "text", (text) => {
    if (opened.current !== undefined) opened.say(opened.current, text);
  });
  const text = element<HTMLTextAreaElement>("text");
  text.onkeydown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    text.form?.requestSubmit();
  };
  const stop = element("stop-node");
  stop.hidden = !canStop;
  stop.onclick = async () => {
    if (gru.state.name === "online") {
      await fetch(`nodes/${gru.state.node}/stop`, { method: "POST" });
    }
  };
  if (matchMedia("(min-width: 44rem)").matches) opened.open(opened.group("lobby"));
}

function onSubmit(form: string, field: string, take: (text: string) => void): void {
  const input = element<HTMLInputElement>(field);
  element<HTMLFormElement>(form).onsubmit = (event) => {
    event.preventDefault();
    const value = input.value.trim();
    input.value = "";
    if (value !== "") take(value);
  };
}

const known = me();
if (known !== undefined) start(known);
else {
  element("enter").hidden = false;
  onSubmit("enter", "name", (name) => start(become(name)));
}
