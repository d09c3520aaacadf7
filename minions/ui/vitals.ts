/** How each spear did in the last minute. It is asked only while this is looked at. */
import type { NodeVitals } from "../snapshot.ts";
import { get } from "./api.ts";
import { h } from "./dom.ts";
import { count, milliseconds, rate } from "./format.ts";
import { type Column, LiveTable } from "./live_table.ts";
import { t, type Word } from "./words.ts";

type Known = NonNullable<NodeVitals["vitals"]>;

const periodMs = 3000;

/** Hidden while there is no spear. */
export function vitalsCard(): { readonly element: HTMLElement; stop(): void } {
  const number = (word: Word, hint: Word, text: (vitals: Known) => string): Column<NodeVitals> => ({
    head: h("span", { title: t(hint) }, t(word)),
    class: "number",
    text: ({ vitals }) => vitals === null ? "–" : text(vitals),
  });
  const table = new LiveTable<NodeVitals>({
    label: t("lastMinute"),
    empty: t("noNodes"),
    keyOf: ({ node }) => node,
    columns: [
      { head: t("node"), text: ({ node }) => node },
      number("latencyHalf", "latencyHint", ({ delivery }) => milliseconds(delivery?.p50)),
      number("latencyMost", "latencyHint", ({ delivery }) => milliseconds(delivery?.p99)),
      number("refusedShort", "refusedHint", (vitals) => rate(vitals.refusedPerSecond)),
      number("errorsShort", "errorsHint", (vitals) => rate(vitals.errorsPerSecond)),
      number("cutOff", "cutOffHint", (vitals) => count(vitals.cutOff)),
      number("missedMessages", "missedHint", (vitals) => count(vitals.missed)),
      number("loopLag", "loopLagHint", (vitals) => milliseconds(vitals.loopLagMs)),
    ],
  });
  const element = h(
    "section",
    { class: "card vitals", hidden: true },
    h("h2", {}, t("lastMinute")),
    table.element,
  );
  let known: readonly NodeVitals[] = [];
  async function load(): Promise<void> {
    if (document.hidden) return;
    // When the console does not answer, what it said may be over.
    known = await get<readonly NodeVitals[]>("/vitals")
      .catch(() => known.map(({ node }) => ({ node, vitals: null })));
    element.hidden = known.length === 0;
    table.show(known);
  }
  load();
  const timer = setInterval(load, periodMs);
  document.addEventListener("visibilitychange", load);
  return {
    element,
    stop() {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", load);
    },
  };
}
