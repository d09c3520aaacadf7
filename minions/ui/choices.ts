/** What each browser remembers of its person: the language and the theme. */
import { h } from "./dom.ts";
import { language, t } from "./words.ts";

const themes = ["auto", "light", "dark"] as const;
const icons = { auto: "◐", light: "☀", dark: "☾" };

function theme() {
  const chosen = localStorage.getItem("gru-theme");
  return themes.find((one) => one === chosen) ?? "auto";
}

/** Puts the choices into the document, from where styles and words take them. */
export function applyChoices(): void {
  const chosen = localStorage.getItem("gru-language") ?? navigator.language;
  document.documentElement.lang = chosen.startsWith("zh") ? "zh" : "en";
  document.documentElement.dataset.theme = theme();
}

/** @param onChange the page is to be made anew: its words and colours are others */
export function choiceButtons(onChange: () => void): HTMLElement[] {
  function choose(key: string, value: string): void {
    localStorage.setItem(key, value);
    applyChoices();
    onChange();
  }
  const next = themes[(themes.indexOf(theme()) + 1) % themes.length] ?? "auto";
  const name = `${t("theme")}: ${t(`theme_${theme()}`)}`;
  return [
    h("button", {
      class: "quiet",
      type: "button",
      lang: language() === "zh" ? "en" : "zh",
      onclick: () => choose("gru-language", language() === "zh" ? "en" : "zh"),
    }, t("language")),
    h("button", {
      class: "quiet icon",
      type: "button",
      "aria-label": name,
      title: name,
      onclick: () => choose("gru-theme", next),
    }, icons[theme()]),
  ];
}
