/** What the cluster stands on, at a glance: its servers, and the programs without which nothing is accepted. */
import type { Away, Snapshot } from "../snapshot.ts";
import { badge, h } from "./dom.ts";
import { count } from "./format.ts";
import { t } from "./words.ts";

interface Health {
  readonly name: string;
  readonly state: "Live" | "Gone" | "Unknown" | "Away" | "Detour";
  /** How many there are, or who is meant. */
  readonly detail?: string;
}

export function healthList() {
  const element = h("ul", { class: "health", "aria-label": t("health") });
  let shown = "";
  return {
    element,
    show(snapshot: Snapshot): void {
      const all = healthOf(snapshot);
      const latest = JSON.stringify(all);
      if (latest === shown) return;
      shown = latest;
      element.replaceChildren(
        ...all.map(({ name, state, detail = "" }) =>
          h(
            "li",
            {},
            h("strong", {}, name),
            badge(t(`state${state}`), state),
            detail === "" ? undefined : h("span", {}, detail),
          )
        ),
      );
    },
  };
}

function healthOf({ instances, problems }: Snapshot): Health[] {
  const isAway = (...kinds: readonly Away[]) => problems.some(({ away }) => kinds.includes(away));
  const of = (service: string) => instances.filter((one) => one.service === service);
  const program = (name: string, service: string): Health => {
    const { length } = of(service);
    return {
      name,
      state: length === 0 ? "Gone" : "Live",
      detail: length === 0 ? "" : count(length),
    };
  };
  const idgens = of("idgen-node").filter(({ meta }) => meta.active !== false);
  const hasIds = idgens.some(({ meta }) => meta.withoutRegistry !== true);
  const carried = of("spear").filter(({ meta }) => meta.mode === "rocketmq");
  const detours = carried.filter(({ meta }) => meta.detour === true);
  return [
    { name: "ZooKeeper", state: isAway("zookeeper") ? "Gone" : "Live" },
    {
      name: "Redis",
      // stat alone knows.
      state: isAway("redis", "reports") ? "Gone" : isAway("stat", "key") ? "Unknown" : "Live",
    },
    ...(carried.length === 0 ? [] : [
      {
        name: "RocketMQ",
        state: detours.length === 0 ? "Live" : "Detour",
        detail: detours.map(({ name }) => name).join(", "),
      } as const,
    ]),
    idgens.length === 0 || hasIds
      ? program("idgen", "idgen-node")
      : { name: "idgen", state: "Away" },
    isAway("stat", "key") ? { name: "stat", state: "Gone" } : program("stat", "stat"),
    program("spear", "spear"),
    program("ticket", "ticket"),
  ];
}
