/** The choices that each browser remembers: the language and the theme. */
import { h, setText } from "./dom.ts";
import { language, t } from "./words.ts";

const themes = ["auto", "light", "dark"] as const;
const icons = { auto: "◐", light: "☀", dark: "☾" };

function theme() {
  const chosen = localStorage.getItem("gru-theme");
  return themes.find((one) => one === chosen) ?? "auto";
}

/** Puts the choices into the document, where styles and texts read them. */
export function applyChoices(): void {
  const chosen = localStorage.getItem("gru-language") ?? navigator.language;
  document.documentElement.lang = chosen.startsWith("zh") ? "zh" : "en";
  document.documentElement.dataset.theme = theme();
}

/** An event of the window: the colours have changed, by choice or with the system's. */
export const recoloured = "recoloured";

/** @param onLanguage called when the page must be rendered again in another language */
export function choiceButtons(onLanguage: () => void): HTMLElement[] {
  function chooseLanguage(): void {
    localStorage.setItem("gru-language", language() === "zh" ? "en" : "zh");
    applyChoices();
    onLanguage();
  }
  function chooseTheme(): void {
    const next = themes[(themes.indexOf(theme()) + 1) % themes.length] ?? "auto";
    localStorage.setItem("gru-theme", next);
    applyChoices();
    showTheme();
    dispatchEvent(new Event(recoloured));
  }
  function showTheme(): void {
    const name = `${t("theme")}: ${t(`theme_${theme()}`)}`;
    themeButton.ariaLabel = themeButton.title = name;
    setText(themeButton, icons[theme()]);
  }
  const other = language() === "zh" ? "en" : "zh-CN";
  const themeButton = h("button", {
    class: "quiet icon",
    type: "button",
    onclick: chooseTheme,
  });
  showTheme();
  return [
    h("button", {
      class: "quiet",
      type: "button",
      lang: other,
      onclick: chooseLanguage,
    }, t("language")),
    themeButton,
  ];
}

/** Follows the system's colours. */
export function followSystem(): void {
  matchMedia("(prefers-color-scheme: dark)").addEventListener(
    "change",
    () => dispatchEvent(new Event(recoloured)),
  );
}
