/** Actions that need a confirmation: each dialog asks, acts, and then shows the result or the error. */
import { type Answer, call, messageOf } from "./api.ts";
import { apiPath } from "./api_path.ts";
import { type Child, field, h, setText } from "./dom.ts";
import { count } from "./format.ts";
import { t } from "./words.ts";

export type Kind = "user" | "group";

interface Question<T> {
  readonly title: string;
  readonly note?: string;
  readonly fields?: Child;
  /** What the button does: "Kick user 9". */
  readonly verb: string;
  readonly isDangerous?: boolean;
  readonly run: () => Promise<T>;
  readonly summary: (answer: T) => string;
  readonly done?: () => void;
}

function ask<T>(
  { title, note, fields, verb, isDangerous, run, summary, done }: Question<T>,
): void {
  const result = h("p", { class: "result", role: "status" });
  const cancel = h("button", { type: "button", onclick: () => dialog.close() }, t("cancel"));
  const kind = isDangerous ? "primary danger" : "primary";
  const confirm = h("button", { type: "submit", class: kind }, verb);
  const dialog: HTMLDialogElement = h(
    "dialog",
    { "aria-label": title },
    h(
      "form",
      { method: "dialog", onsubmit: submit },
      h("h2", {}, title),
      note === undefined ? undefined : h("p", { class: "light" }, note),
      fields,
      result,
      h("div", { class: "row end" }, cancel, confirm),
    ),
  );
  async function submit(event: Event): Promise<void> {
    event.preventDefault();
    confirm.disabled = true;
    result.className = "result";
    try {
      setText(result, summary(await run()));
      confirm.hidden = true;
      setText(cancel, t("close"));
      cancel.focus();
      done?.();
    } catch (error) {
      result.className = "result problem";
      setText(result, messageOf(error));
    }
    confirm.disabled = false;
  }
  dialog.addEventListener("close", () => {
    dialog.remove();
    // The button that opened the dialog may have disappeared.
    if (document.activeElement === document.body) document.getElementById("main")?.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
}

/** The nodes that did not answer; empty if all did. */
export function failures({ failed }: Pick<Answer<"touched">, "failed">): string {
  if (failed.length === 0) return "";
  return `${t("failedNodes")}: ${failed.map(({ node }) => node).join(", ")}`;
}

function touched(answer: Pick<Answer<"touched">, "connections" | "failed">): string {
  const nodes = failures(answer);
  const summary = `${count(answer.connections)} ${t("touched")}`;
  return nodes === "" ? summary : `${summary} · ${nodes}`;
}

function contentField() {
  const content = h("textarea", { rows: 3, required: true });
  return { content, fields: field(t("content"), content) };
}

export function askPublish(kind: Kind, id: string): void {
  const { content, fields } = contentField();
  // One key for the dialog: pressing the button again after an error sends nothing twice.
  const key = { "idempotency-key": crypto.randomUUID() };
  const path = apiPath(`${kind}s`, id, "messages");
  ask({
    title: t("askPublish", `${t(kind)} ${id}`),
    verb: t("publish"),
    fields,
    run: () => call<Answer<"position">>("POST", path, { content: content.value }, key),
    summary: ({ id, seq }) => `${t("accepted")}: id ${id}, seq ${seq}`,
  });
}

export function askBroadcast(): void {
  const { content, fields } = contentField();
  ask({
    title: t("askBroadcast"),
    verb: t("broadcast"),
    fields,
    run: () => {
      const body = { content: content.value };
      return call<Answer<"broadcastResult">>("POST", apiPath("broadcast"), body);
    },
    summary: touched,
  });
}

export interface KickOptions {
  readonly title: string;
  readonly verb: string;
  readonly path: string;
  readonly canBan: boolean;
  readonly done: () => void;
}

export function askKick({ title, verb, path, canBan, done }: KickOptions): void {
  const reason = h("input", { maxlength: 256, autocomplete: "off" });
  const minutes = h("input", { type: "number", min: 0, max: 5_000_000, step: 1, value: 0 });
  ask({
    title,
    verb,
    isDangerous: true,
    fields: [field(t("reason"), reason), canBan ? field(t("banMinutes"), minutes) : undefined],
    run: () => {
      const banMs = canBan ? Number(minutes.value) * 60_000 : 0;
      const body = { reason: reason.value, ...(banMs > 0 ? { banMs } : {}) };
      return call<Answer<"touched">>("POST", path, body);
    },
    summary: touched,
    done,
  });
}

export function askLift(kind: Kind, id: string, done: () => void): void {
  ask({
    title: t("askLift", `${t(kind)} ${id}`),
    verb: t("lift"),
    run: () => call("DELETE", apiPath("bans", kind, id)),
    summary: () => t("lifted"),
    done,
  });
}

/** A user anywhere, everybody in a group, or a user in a group. */
export interface Muted {
  readonly userId?: string | undefined;
  readonly groupId?: string | undefined;
}

export function mutedName({ userId, groupId }: Muted): string {
  if (userId === undefined) return `${t("group")} ${groupId}`;
  return groupId === undefined ? `${t("user")} ${userId}` : t("userInGroup", userId, groupId);
}

function mutePath({ userId, groupId }: Muted): string {
  return apiPath(
    ...(userId === undefined ? [] : ["users", userId]),
    ...(groupId === undefined ? [] : ["groups", groupId]),
    "mute",
  );
}

/** Of a group it may be everybody, or one user. */
export function askMute(kind: Kind, id: string, done: () => void): void {
  const reason = h("input", { maxlength: 256, autocomplete: "off" });
  const minutes = h("input", {
    ...{ type: "number", min: 1, max: 5_000_000, step: 1, value: 60, required: true },
  });
  const only = h("input", { maxlength: 19, autocomplete: "off" });
  ask({
    title: t("askMute", `${t(kind)} ${id}`),
    verb: t("mute"),
    note: t("muteNote"),
    fields: [
      kind === "group" ? field(t("onlyUser"), only) : undefined,
      field(t("reason"), reason),
      field(t("minutes"), minutes),
    ],
    run: () => {
      const userId = kind === "user" ? id : only.value.trim() || undefined;
      const path = mutePath({ userId, groupId: kind === "group" ? id : undefined });
      const muteMs = Number(minutes.value) * 60_000;
      return call<Answer<"muted">>("PUT", path, { reason: reason.value, muteMs });
    },
    summary: touched,
    done,
  });
}

export function askUnmute(muted: Muted, done: () => void): void {
  ask({
    title: t("askUnmute", mutedName(muted)),
    verb: t("lift"),
    run: () => call("DELETE", mutePath(muted)),
    summary: () => t("unmuted"),
    done,
  });
}

/** Puts a user into a group, or takes it out. */
export function askMembership(userId: string, done: () => void): void {
  const group = h("input", { required: true, maxlength: 128, autocomplete: "off" });
  const act = h(
    "select",
    {},
    h("option", { value: "PUT" }, t("putInto")),
    h("option", { value: "DELETE" }, t("takeOut")),
  );
  ask({
    title: t("askMembership", userId),
    verb: t("change"),
    note: t("membershipNote"),
    fields: [field(t("what"), act), field(t("group"), group)],
    run: () => {
      const path = apiPath("users", userId, "groups", group.value.trim());
      return call<Answer<"touched">>(act.value === "PUT" ? "PUT" : "DELETE", path);
    },
    summary: touched,
    done,
  });
}

export function askClear(kind: Kind, id: string, done: () => void): void {
  ask({
    title: t("askClear", `${t(kind)} ${id}`),
    verb: t("clearHistory"),
    note: t("clearNote"),
    isDangerous: true,
    run: () => call<Answer<"cleared">>("DELETE", apiPath(`${kind}s`, id, "history")),
    summary: () => t("cleared"),
    done,
  });
}

export function askReplay(endpoint: string): void {
  const minutes = h("input", { type: "number", min: 1, max: 1440, step: 1, value: 10 });
  ask({
    title: t("askReplay", endpoint),
    verb: t("replay"),
    fields: field(t("replayMinutes"), minutes),
    run: () => {
      const from = Date.now() - Number(minutes.value) * 60_000;
      return call("POST", `${apiPath("hooks", endpoint, "replay")}?from=${from}`);
    },
    summary: () => t("replayed"),
  });
}

export function askRebalance(): void {
  ask({
    title: t("askRebalance"),
    verb: t("rebalance"),
    note: t("rebalanceNote"),
    run: () => call<Answer<"rebalanceStatus">>("POST", apiPath("rebalance"), {}),
    summary: ({ running }) => t(running ? "rebalanceRuns" : "rebalanceDone"),
  });
}

export function askUndrain(node: string): void {
  ask({
    title: t("askUndrain", node),
    verb: t("undrain"),
    note: t("undrainNote"),
    run: () => call<Answer<"undrained">>("DELETE", apiPath("nodes", node, "drain")),
    summary: () => t("drainUndone", node),
  });
}

export function askDrain(node: string): void {
  ask({
    title: t("askDrain", node),
    verb: t("drainNode", node),
    note: t("drainNote"),
    isDangerous: true,
    run: () => call<Answer<"drainResult">>("POST", apiPath("nodes", node, "drain"), {}),
    summary: ({ connections }) => `${count(connections)} ${t("willMove")}`,
  });
}
