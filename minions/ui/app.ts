/** The frame of the console: sign-in, the pages, and the live connection that all pages share. */
import type { Snapshot } from "../snapshot.ts";
import { auditPage } from "./audit.ts";
import { call, get, type Session, signedOut } from "./api.ts";
import { applyChoices, choiceButtons, followSystem } from "./choices.ts";
import { clientPage } from "./client.ts";
import { clusterPage } from "./cluster.ts";
import { brand, h, setText } from "./dom.ts";
import { hooksPage } from "./hooks.ts";
import { listenPage } from "./listen.ts";
import type { Page } from "./page.ts";
import { peoplePage } from "./people.ts";
import { signInPage } from "./sign_in.ts";
import { warningList } from "./warnings.ts";
import { t } from "./words.ts";

const pages = {
  cluster: clusterPage,
  people: peoplePage,
  listen: listenPage,
  client: clientPage,
  hooks: hooksPage,
  audit: auditPage,
};
type PageName = keyof typeof pages;
const pageNames = Object.keys(pages) as PageName[];
const againMs = 2000;

class Frame {
  readonly #root: HTMLElement;
  readonly #status = h("span", { class: "status", role: "status" });
  #session: Session;
  #page: Page | undefined;
  #warnings = warningList();
  #source: EventSource | undefined;
  #snapshot: Snapshot | undefined;

  constructor(root: HTMLElement, session: Session) {
    this.#root = root;
    this.#session = session;
  }

  /** Renders the current page again. */
  render(): void {
    this.#page?.stop?.();
    this.#page = undefined;
    if (this.#session.role === null) this.#renderSignIn();
    else this.#renderPage(this.#session.role === "act");
  }

  signedOut(): void {
    if (this.#session.role === null) return;
    this.#session = { ...this.#session, role: null, open: false, makesTokens: false };
    this.#source?.close();
    this.#source = undefined;
    this.#snapshot = undefined;
    this.render();
  }

  #renderSignIn(): void {
    document.title = `${t("signIn")} · Gru`;
    const onSignedIn = (session: Session) => {
      this.#session = session;
      this.render();
    };
    this.#root.replaceChildren(
      signInPage({ named: this.#session.named, tools: this.#choices(), onSignedIn }),
    );
    this.#root.querySelector("input")?.focus();
  }

  #renderPage(mayAct: boolean): void {
    const [first, ...path] = location.hash.slice(2).split("/").map(decoded);
    const name = pageNames.find((one) => first === one) ?? "cluster";
    const links = pageNames.map((page) =>
      h("a", { href: `#/${page}`, "aria-current": page === name ? "page" : undefined }, t(page))
    );
    const signOut = async () => {
      await call("POST", "/sign-out", {});
      this.signedOut();
    };
    const main = h("main", { id: "main", tabindex: "-1" });
    this.#warnings = warningList();
    this.#root.replaceChildren(
      h(
        "header",
        {},
        brand(),
        h("nav", { "aria-label": t("console") }, links),
        h(
          "div",
          { class: "tools" },
          mayAct ? undefined : h("span", { class: "badge" }, t("look")),
          this.#status,
          this.#choices(),
          this.#session.open
            ? undefined
            : h("button", { class: "quiet", type: "button", onclick: signOut }, t("signOut")),
        ),
      ),
      this.#warnings.element,
      main,
    );
    // On a phone there is not room for all of them.
    const current = this.#root.querySelector("nav [aria-current]");
    current?.scrollIntoView({ block: "nearest", inline: "center" });
    document.title = `${t(name)} · Gru`;
    this.#page = pages[name]({ main, mayAct, makesTokens: this.#session.makesTokens, path });
    if (this.#snapshot !== undefined) this.#show(this.#snapshot);
    this.#connect();
    this.#showStatus();
  }

  #show(snapshot: Snapshot): void {
    this.#warnings.show(snapshot.problems);
    this.#page?.update?.(snapshot);
  }

  #choices(): HTMLElement[] {
    return choiceButtons(() => this.render());
  }

  #showStatus(): void {
    const isLive = this.#source?.readyState === EventSource.OPEN;
    this.#status.classList.toggle("ok", isLive);
    setText(this.#status, t(isLive ? "live" : "reconnecting"));
  }

  /** One connection for all pages. The browser reconnects it by itself, unless it was refused. */
  #connect(): void {
    if (this.#source !== undefined && this.#source.readyState !== EventSource.CLOSED) return;
    const source = this.#source = new EventSource("/events");
    source.onopen = () => this.#showStatus();
    source.onmessage = ({ data }) => {
      this.#snapshot = JSON.parse(data) as Snapshot;
      this.#show(this.#snapshot);
      this.#showStatus();
    };
    source.onerror = () => {
      this.#showStatus();
      if (source.readyState === EventSource.CLOSED) setTimeout(() => this.#resume(), againMs);
    };
  }

  async #resume(): Promise<void> {
    const session = await get<Session>("/session").catch(() => undefined);
    if (session === undefined) return void setTimeout(() => this.#resume(), againMs);
    if (session.role === null) this.signedOut();
    else this.#connect();
  }
}

/** A person may have written it. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

applyChoices();
followSystem();
const frame = new Frame(document.body, await get<Session>("/session"));
frame.render();
addEventListener("hashchange", () => {
  frame.render();
  document.getElementById("main")?.focus({ preventScroll: true });
});
addEventListener(signedOut, () => frame.signedOut());
