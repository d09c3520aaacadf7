/** The frame of the console: sign-in, pages, language, theme, and the live connection that all pages share. */
import { clientPage } from "./client.js";
import { clusterPage } from "./cluster.js";
import { call, get, h, setText } from "./dom.js";
import { listenPage } from "./listen.js";
import { peoplePage } from "./people.js";
import { language, t } from "./words.js";

const pages = { cluster: clusterPage, people: peoplePage, listen: listenPage, client: clientPage };
const themes = ["auto", "light", "dark"];
const root = document.getElementById("app");

/** The page on show, with what it must stop when it goes. */
let shown;
let session;
let source;
let snapshot;
let status;

function theme() {
  const chosen = localStorage.getItem("gru-theme");
  return themes.includes(chosen) ? chosen : "auto";
}

function applyChoices() {
  document.documentElement.lang = language();
  document.documentElement.dataset.theme = theme();
}

function setChoice(key, value) {
  localStorage.setItem(key, value);
  applyChoices();
  render();
}

function choices() {
  const next = themes[(themes.indexOf(theme()) + 1) % themes.length];
  const icon = { auto: "◐", light: "☀", dark: "☾" }[theme()];
  return [
    h("button", {
      class: "quiet",
      type: "button",
      onclick: () => setChoice("gru-language", language() === "zh" ? "en" : "zh"),
    }, t("language")),
    h("button", {
      class: "quiet icon",
      type: "button",
      "aria-label": `${t("theme")}: ${theme()}`,
      title: `${t("theme")}: ${theme()}`,
      onclick: () => setChoice("gru-theme", next),
    }, icon),
  ];
}

function brand() {
  return h("span", { class: "brand" }, h("span", { class: "mark", "aria-hidden": "true" }), "Gru");
}

function signInView() {
  const password = h("input", {
    type: "password",
    name: "password",
    autocomplete: "current-password",
    required: true,
    id: "password",
  });
  const problem = h("p", { class: "problem", role: "alert" });
  async function submit(event) {
    event.preventDefault();
    setText(problem, "");
    try {
      session = await call("POST", "/sign-in", { password: password.value });
      render();
    } catch (error) {
      setText(problem, error.message);
      password.select();
    }
  }
  root.replaceChildren(
    h(
      "main",
      { class: "sign-in" },
      h(
        "form",
        { class: "card", onsubmit: submit },
        h("h1", {}, brand(), h("span", { class: "light" }, t("console"))),
        h("label", { for: "password" }, t("password")),
        password,
        problem,
        h("button", { class: "primary", type: "submit" }, t("signIn")),
      ),
      h("div", { class: "row center" }, choices()),
    ),
  );
  password.focus();
}

function pageName() {
  const name = location.hash.slice(2).split("/")[0];
  return Object.hasOwn(pages, name) ? name : "cluster";
}

function render() {
  shown?.stop?.();
  shown = undefined;
  if (session?.role === null || session === undefined) return signInView();
  const name = pageName();
  status = h("span", { class: "status", role: "status" });
  const links = Object.keys(pages).map((page) =>
    h("a", { href: `#/${page}`, "aria-current": page === name ? "page" : undefined }, t(page))
  );
  const signOut = session.open ? undefined : h("button", {
    class: "quiet",
    type: "button",
    onclick: async () => {
      await call("POST", "/sign-out", {});
      signedOut();
    },
  }, t("signOut"));
  const main = h("main", { id: "main", tabindex: "-1" });
  root.replaceChildren(
    h(
      "header",
      {},
      brand(),
      h("nav", { "aria-label": t("console") }, links),
      h(
        "div",
        { class: "tools" },
        session.role === "look" ? h("span", { class: "badge" }, t("look")) : undefined,
        status,
        choices(),
        signOut,
      ),
    ),
    main,
  );
  document.title = `${t(name)} · Gru`;
  shown = pages[name]({ main, mayAct: session.role === "act" });
  if (snapshot !== undefined) shown.update?.(snapshot);
  connect();
  showStatus();
}

function showStatus() {
  if (status === undefined) return;
  const isLive = source?.readyState === EventSource.OPEN;
  status.classList.toggle("ok", isLive);
  setText(status, isLive ? t("live") : t("reconnecting"));
}

/** One connection for all pages; the browser reconnects it by itself, unless it was refused. */
function connect() {
  if (source !== undefined && source.readyState !== EventSource.CLOSED) return;
  source = new EventSource("/events");
  source.onopen = showStatus;
  source.onmessage = ({ data }) => {
    snapshot = JSON.parse(data);
    shown?.update?.(snapshot);
    showStatus();
  };
  source.onerror = () => {
    showStatus();
    if (source.readyState === EventSource.CLOSED) setTimeout(resume, 2000);
  };
}

async function resume() {
  const now = await get("/session").catch(() => undefined);
  if (now === undefined) return setTimeout(resume, 2000);
  if (now.role === null) return signedOut();
  connect();
}

function signedOut() {
  session = undefined;
  source?.close();
  source = undefined;
  render();
}

addEventListener("hashchange", () => {
  render();
  document.getElementById("main")?.focus({ preventScroll: true });
});
addEventListener("signed-out", () => session?.role && signedOut());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => session && render());
applyChoices();
session = await get("/session");
render();
