/**
 * What an operator sees of a cluster, and nothing else: metrics, read every second as Prometheus does, what the console shows, the
 * audit log and the programs' logs. From these it tells what happened.
 */
import { pause } from "@gru/shared/pause";
import type { Json } from "../../spear/test_client.ts";

export interface Told {
  /** Unix milliseconds. */
  readonly at: number;
  readonly from: "metrics" | "console" | "audit" | "log";
  readonly text: string;
}

export interface WatchOptions {
  /** Where each program's metrics are, by its name. */
  readonly monitors: Readonly<Record<string, string>>;
  readonly console: string;
  readonly cookie: string;
}

const periodMs = 1000;
/** Counters whose growth is told, and gauges whose change is. */
const growth = [
  'gru_spear_messages_total{result="refused"}',
  'gru_spear_messages_total{result="in_doubt"}',
  'gru_spear_disconnects_total{reason="overBudget"}',
  'gru_spear_disconnects_total{reason="slowConsumer"}',
  'gru_spear_disconnects_total{reason="kicked"}',
  'gru_spear_disconnects_total{reason="banned"}',
  'gru_minions_sign_ins_total{result="wrong"}',
];
const state = ["gru_spear_broker_connected", "gru_stat_store_connected", "gru_spear_canary_silent"];

export class Watch implements AsyncDisposable {
  readonly #options: WatchOptions;
  readonly #told: Told[] = [];
  readonly #stop = new AbortController();
  readonly #last = new Map<string, number>();
  /** How far each kind of growth has been told. */
  readonly #growing = new Map<string, { at: number; by: number }>();
  readonly #watching: Promise<unknown>;

  constructor(options: WatchOptions) {
    this.#options = options;
    this.#watching = Promise.all([this.#scrape(), this.#look()]);
  }

  /** How often metrics and console have told this until now. */
  times(pattern: RegExp): number {
    return this.#told.filter(({ text }) => pattern.test(text)).length;
  }

  /** Everything until now, in its order. @param logs what each program has written, by its name */
  async story(logs: Readonly<Record<string, string>>): Promise<Told[]> {
    const { console: address, cookie } = this.#options;
    const response = await fetch(`${address}/api/audit?limit=1000`, { headers: { cookie } });
    const { entries } = await response.json();
    const audit = entries.map((entry: Json) => ({
      at: entry.at,
      from: "audit",
      text: [
        ...[entry.who, entry.address && `(${entry.address})`, entry.command, entry.target],
        ...[entry.details, entry.result && `→ ${entry.result}`],
      ].filter((part) => part !== "" && part !== "{}").join(" "),
    }));
    const lines = Object.entries(logs).flatMap(([, output]) =>
      output.split("\n").flatMap((line) => {
        const [, date, text] = /^(\S+ \S+) \+00 \[(?:WRN|ERR)\] (.*)$/.exec(line) ?? [];
        if (date === undefined || text === undefined) return [];
        return [{ at: Date.parse(`${date.replace(" ", "T")}Z`), from: "log", text } as const];
      })
    );
    return [...this.#told, ...audit, ...lines].sort((a, b) => a.at - b.at);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#watching;
  }

  async #scrape(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      await Promise.all(
        Object.entries(this.#options.monitors).map(([name, monitor]) => this.#read(name, monitor)),
      );
      await pause(periodMs, this.#stop.signal);
    }
  }

  async #read(name: string, monitor: string): Promise<void> {
    const at = Date.now();
    const signal = AbortSignal.timeout(periodMs);
    const text = await fetch(`${monitor}/metrics`, { signal })
      .then((response) => response.text()).catch(() => undefined);
    this.#changed(at, `${name} answers`, text === undefined ? 0 : 1);
    if (text === undefined) return;
    for (const line of text.split("\n")) {
      const [, metric = "", labels = "", value] = /^(\w+)\{([^}]*)\} (\S+)/.exec(line) ?? [];
      const others = labels.split(",").filter((label) =>
        label !== "" && !label.startsWith("node=")
      );
      const key = metric + (others.length === 0 ? "" : `{${others.join(",")}}`);
      if (growth.includes(key)) this.#grew(at, `${name} ${key}`, Number(value));
      if (state.includes(key)) this.#changed(at, `${name} ${key}`, Number(value));
    }
  }

  /** A counter; told once, when it has stopped to grow. */
  #grew(at: number, key: string, value: number): void {
    const before = this.#last.get(key) ?? 0;
    this.#last.set(key, value);
    const known = this.#growing.get(key);
    // After a restart it begins anew.
    if (value > before) {
      this.#growing.set(key, { at: known?.at ?? at, by: (known?.by ?? 0) + value - before });
    } else if (known !== undefined) {
      this.#growing.delete(key);
      this.#told.push({ at: known.at, from: "metrics", text: `${key} +${known.by}` });
    }
  }

  #changed(at: number, key: string, value: number): void {
    const before = this.#last.get(key);
    this.#last.set(key, value);
    if (before !== undefined && before !== value) {
      this.#told.push({ at, from: "metrics", text: `${key}: ${before} → ${value}` });
    }
  }

  /** The console's live data, as a page gets them. */
  async #look(): Promise<void> {
    const { console: address, cookie } = this.#options;
    const options = { headers: { cookie } };
    let away = "";
    const slow = new Map<string, number>();
    while (!this.#stop.signal.aborted) {
      const vitals: Json = await fetch(`${address}/vitals`, options).then((one) => one.json());
      const events = await fetch(`${address}/events`, options);
      const reader = events.body?.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      while (!text.endsWith("\n\n")) text += (await reader?.read())?.value ?? "\n\n";
      await reader?.cancel();
      const { problems, at } = JSON.parse(text.slice("data: ".length));
      const now = problems.map((one: Json) => one.away).join(", ");
      if (now !== away) {
        this.#told.push({
          at,
          from: "console",
          text: now === "" ? `${away} is back` : `${now} is away`,
        });
      }
      away = now;
      for (const { node, vitals: one } of vitals) {
        const cutOff = one?.cutOff ?? 0;
        if (cutOff > (slow.get(node) ?? 0)) {
          this.#told.push({ at, from: "console", text: `${node}: ${cutOff} slow clients cut off` });
        }
        slow.set(node, cutOff);
      }
      await pause(periodMs, this.#stop.signal);
    }
  }
}
