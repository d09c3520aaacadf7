/** What is away: above each page, because no page works without it as it should. */
import type { Snapshot } from "../snapshot.ts";
import { h } from "./dom.ts";
import { timeOfDay } from "./format.ts";
import { t } from "./words.ts";

/** What is away, since when, and what works all the same. */
export function warningList() {
  const element = h("div", { class: "warnings", role: "status" });
  let shown = "";
  return {
    element,
    show(problems: Snapshot["problems"]): void {
      const latest = JSON.stringify([problems]);
      if (latest === shown) return;
      shown = latest;
      element.replaceChildren(...problems.map(({ away, since, detail }) =>
        h(
          "p",
          { class: "warning", title: detail },
          h("strong", {}, t(`away_${away}`, timeOfDay(since))),
          " ",
          t(`works_without_${away}`),
        )
      ));
    },
  };
}
