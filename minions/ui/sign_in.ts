/** The page shown before sign-in. */
import { call, messageOf, type Session } from "./api.ts";
import { brand, field, h, setText } from "./dom.ts";
import { t } from "./words.ts";

export function signInPage(
  { named, tools, onSignedIn }: {
    /** Ask for a name, too. Without one, the password is one that many share. */
    readonly named: boolean;
    readonly tools: readonly HTMLElement[];
    readonly onSignedIn: (session: Session) => void;
  },
): HTMLElement {
  const password = h("input", {
    type: "password",
    name: "password",
    autocomplete: "current-password",
    required: true,
    autofocus: !named,
  });
  const name = h("input", {
    type: "text",
    name: "name",
    autocomplete: "username",
    autofocus: true,
  });
  const problem = h("p", { class: "problem", role: "alert" });
  const button = h("button", { class: "primary", type: "submit" }, t("signIn"));
  async function onsubmit(event: Event): Promise<void> {
    event.preventDefault();
    setText(problem, "");
    button.disabled = true;
    try {
      onSignedIn(
        await call<Session>("POST", "/sign-in", { name: name.value, password: password.value }),
      );
    } catch (error) {
      setText(problem, messageOf(error));
      password.select();
    }
    button.disabled = false;
  }
  return h(
    "main",
    { class: "sign-in" },
    h(
      "form",
      { class: "card", onsubmit },
      h("h1", {}, brand(), h("span", { class: "light" }, t("console"))),
      named ? field(t("name"), name) : undefined,
      field(t("password"), password),
      problem,
      button,
    ),
    h("div", { class: "row center" }, tools),
  );
}
