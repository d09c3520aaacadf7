/** The last hour as charts, of the cluster or of one node. */
import type UPlot from "uplot/dist/uPlot.d.ts";
import { type Answer, get } from "./api.ts";
import { apiPath } from "./api_path.ts";
import { recoloured } from "./choices.ts";
import { h } from "./dom.ts";
import { count, hourAndMinute } from "./format.ts";
import { t } from "./words.ts";

type Rates = Answer<"rates">;
type Series = Exclude<keyof Rates, "at" | "stepMs">;

interface Kind {
  readonly title: string;
  readonly series: readonly (readonly [key: Series, label: string])[];
  readonly unit?: number;
  readonly suffix?: string;
}

interface Chart {
  readonly plot: UPlot;
  readonly holder: HTMLElement;
  readonly kind: Kind;
}

const periodMs = 10_000;
const height = 150;

export class HourCharts {
  readonly element = h("div", { class: "charts" });
  readonly #charts: readonly Chart[];
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #observer = new ResizeObserver(() => this.#resize());
  readonly #recolour = () => this.#charts.forEach(({ plot }) => plot.redraw(false));
  #node = "";

  constructor() {
    const kinds: readonly Kind[] = [
      { title: t("connections"), series: [["connections", t("connections")]] },
      {
        title: t("messages"),
        series: [
          ["acceptedPerSecond", t("sentShort")],
          ["deliveredPerSecond", t("deliveredShort")],
        ],
      },
      { title: t("usersAndGroups"), series: [["users", t("users")], ["groups", t("groups")]] },
      {
        title: t("memory"),
        series: [["memoryBytes", t("memory")]],
        unit: 1_048_576,
        suffix: " MB",
      },
    ];
    this.#charts = kinds.map((kind) => this.#addChart(kind));
    this.#observer.observe(this.element);
    addEventListener(recoloured, this.#recolour);
    this.#timer = setInterval(() => this.#load(), periodMs);
    this.#load();
  }

  /** Shows this node; empty: all nodes together. */
  show(node: string): void {
    this.#node = node;
    this.#load();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#observer.disconnect();
    removeEventListener(recoloured, this.#recolour);
    for (const { plot } of this.#charts) plot.destroy();
  }

  #addChart(kind: Kind): Chart {
    const holder = h("div", { class: "plot" });
    const keys = kind.series.map(([, label], i) => h("span", { class: `key key${i}` }, label));
    const legend = h("p", { class: "legend" }, keys.length > 1 ? keys : undefined);
    this.element.append(h("figure", {}, h("figcaption", {}, kind.title, legend), holder));
    return { plot: new globalThis.uPlot(drawing(kind), [[]], holder), holder, kind };
  }

  async #load(): Promise<void> {
    const node = this.#node;
    const query = node === "" ? "" : `?${new URLSearchParams({ node })}`;
    const rates = await get<Rates>(`${apiPath("rates")}${query}`).catch(() => undefined);
    // Another node may have been chosen in the meantime.
    if (rates === undefined || node !== this.#node) return;
    // A time without a sample in each gap, so that no line crosses it.
    const gaps = rates.at.flatMap((ms, i) =>
      (rates.at[i + 1] ?? ms) - ms > 1.5 * rates.stepMs ? [i] : []
    );
    const broken = <T>(values: readonly T[], missing: (i: number) => T): T[] =>
      values.flatMap((value, i) => gaps.includes(i) ? [value, missing(i)] : [value]);
    const at = broken(rates.at, (i) => (rates.at[i] ?? 0) + rates.stepMs).map((ms) => ms / 1000);
    for (const { plot, kind: { series, unit = 1 } } of this.#charts) {
      const scaled = series.map(([key]) =>
        broken<number | null>(rates[key], () => null)
          .map((value) => value === null ? null : value / unit)
      );
      plot.setData([at, ...scaled]);
    }
    this.#resize();
  }

  #resize(): void {
    for (const { plot, holder } of this.#charts) {
      const width = holder.clientWidth;
      if (width > 0 && width !== plot.width) plot.setSize({ width, height });
    }
  }
}

function drawing({ series, suffix = "" }: Kind): UPlot.Options {
  const axis = {
    stroke: () => color("--soft"),
    grid: { stroke: () => color("--line"), width: 1 },
    ticks: { show: false },
    font: "12px system-ui",
  };
  const strokes = ["--accent", "--second"];
  return {
    width: 300,
    height,
    legend: { show: false },
    // Half a label has room behind the last moment.
    padding: [8, 22, 0, 0],
    cursor: { y: false, points: { size: 6 } },
    scales: {
      x: { time: true, range: ({ data: [at] }) => hourOf(at) },
      y: { range: (_, _low, high) => [0, high > 0 ? high * 1.15 : 1] },
    },
    axes: [
      {
        ...axis,
        values: (_, at) => at.map((s) => hourAndMinute(s * 1000)),
        // Labels have minutes and whole numbers: finer ticks would repeat them.
        incrs: [1, 2, 5, 10, 15, 20, 30, 60].map((minutes) => 60 * minutes),
        space: 60,
        size: 30,
      },
      {
        ...axis,
        values: (_, found) => found.map((value) => `${count(value)}${suffix}`),
        incrs: Array.from({ length: 10 }, (_, n) => [1, 2, 5].map((step) => step * 10 ** n)).flat(),
        space: 28,
        size: 64,
      },
    ],
    series: [
      {},
      ...series.map(([, label], i): UPlot.Series => ({
        label,
        stroke: () => color(strokes[i] ?? ""),
        width: 2,
        points: { show: false },
        ...(i === 0 ? { fill: () => color("--wash") } : {}),
      })),
    ],
  };
}

/** A colour of the page in a form that a canvas understands. */
function color(name: string): string {
  const probe = h("i", { hidden: true });
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

/**
 * The known part of the last hour, at least ten minutes. It ends with the last sample, because the browser's clock may
 * be wrong.
 */
function hourOf(at: ArrayLike<number>): [number, number] {
  const now = at[at.length - 1] ?? Date.now() / 1000;
  return [Math.max(now - 3600, Math.min(at[0] ?? now, now - 600)), now];
}
