/** What happens to the cluster's programs: a line in the log and an entry in the audit log, which every stat shows. */
import type { Logger } from "@gru/shared/log";
import { type Change, Changes } from "@gru/shared/registry/changes";
import type { Instance, Registry } from "@gru/shared/registry/registry";
import { auditEntriesKept } from "./audit.ts";
import type { StatStore } from "./store.ts";

export interface HappeningsOptions {
  readonly registry: Registry;
  readonly store: Pick<StatStore, "audit">;
  readonly keepMs: number;
  readonly log: Logger;
}

const livesKept = 10_000;
const services = ["spear", "idgen", "stat", "ticket"];

const lines: Readonly<Record<Change["kind"], string>> = {
  joined: "{name} has joined",
  draining: "{name} is being drained: it gets no new clients",
  undrained: "{name} takes clients again: its drain is undone",
  left: "{name} has left",
  died: "{name} has died, or is cut off from the registry; it had {load} clients",
};

/** Watches until disposed. Every stat does; what several of them see stands in the audit log once. */
export async function noteHappenings(options: HappeningsOptions): Promise<Disposable> {
  const { registry } = options;
  using stack = new DisposableStack();
  const lives = new Lives();
  const changes = new Changes(
    registry,
    (change) => void note(options, change, lives.times(change)),
  );
  for (const service of services) {
    stack.use(await registry.watch(service, ({ instances }) => changes.see(service, instances)));
  }
  return stack.move();
}

async function note(
  { store, keepMs, log }: HappeningsOptions,
  { kind, instance }: Change,
  times: number,
) {
  const { name, meta } = instance;
  const load = Number(meta.load ?? 0);
  log[kind === "died" ? "warn" : "info"](lines[kind], { name, load });
  try {
    await store.audit({
      ...{ via: "cluster", who: "", address: addressOf(instance), command: kind, target: name },
      details: kind === "died" && meta.load !== undefined ? `${load} clients` : "",
      result: "",
    }, { keepMs, most: auditEntriesKept, once: onceOf(kind, instance, times) });
  } catch (error) {
    log.warn("this is not in the audit log: {error}", { error });
  }
}

/** How often each life of a program was seen to begin and end: one that was frozen, or cut off, comes back and may die again. */
class Lives {
  readonly #seen = new Map<string, number>();

  times({ kind, instance: { name, startedAt } }: Change): number {
    const key = `${name} ${startedAt} ${kind}`;
    const times = (this.#seen.get(key) ?? 0) + 1;
    this.#seen.delete(key);
    this.#seen.set(key, times);
    const [oldest] = this.#seen.keys();
    if (this.#seen.size > livesKept && oldest !== undefined) this.#seen.delete(oldest);
    return times;
  }
}

/** The stats that were there all the time count alike. A drain may come again, and its stats see it within the same minute or two. */
function onceOf(kind: Change["kind"], { name, startedAt }: Instance, times: number): string {
  const isDrain = kind === "draining" || kind === "undrained";
  const again = isDrain ? ` ${Math.floor(Date.now() / 120_000)}` : times === 1 ? "" : ` ${times}`;
  return `${name} ${startedAt} ${kind}${again}`;
}

function addressOf({ addresses }: Instance): string {
  return addresses.client ?? addresses.http ?? addresses.rpc ?? "";
}
