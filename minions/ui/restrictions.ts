/** Bans and mutes: those of one user or group, and the table of all. */
import { type Answer, get } from "./api.ts";
import { askLift, askUnmute, type Kind, mutedName } from "./dialogs.ts";
import { type Child, h, plainTable } from "./dom.ts";
import { dateAndTime } from "./format.ts";
import { apiPath } from "./api_path.ts";
import { t } from "./words.ts";

/** A button, where the user may act. */
type Act = (label: string, className: string, onclick: () => void) => Child;

/** What holds for a user or group, with the reason and its end, and the buttons that lift it. */
export async function restrictionsOf(
  what: Kind,
  name: string,
  { act, lifted }: { readonly act: Act; readonly lifted: () => void },
): Promise<HTMLElement[]> {
  // Somebody who may see a user may see these; when stat is away the user cannot be read either.
  const { bans, mutes } = await readAll();
  const warning = (text: string, reason: string, ask: () => void) =>
    h(
      "p",
      { class: "warning row spread" },
      h("span", {}, text, reason === "" ? "" : `: ${reason}`),
      act(t("lift"), "small", ask),
    );
  return [
    ...bans.filter((one) => one.kind === what && one.id === name).map(({ until, reason }) =>
      warning(
        t("bannedUntil", dateAndTime(until)),
        reason,
        () => askLift(what, name, lifted),
      )
    ),
    ...mutes.filter((one) => one[`${what}Id`] === name).map((mute) =>
      warning(
        t("mutedUntil", mutedName(mute), dateAndTime(mute.until)),
        mute.reason,
        () => askUnmute(mute, lifted),
      )
    ),
  ];
}

export async function restrictionsTable(act: Act, changed: () => void): Promise<HTMLElement[]> {
  const { bans, mutes } = await readAll();
  if (bans.length + mutes.length === 0) {
    return [h("p", { class: "empty" }, t("noRestrictions"))];
  }
  const rows = [
    ...bans.map(({ kind, id, reason, until }) => [
      ...[t("ban"), `${t(kind)} ${id}`, reason, dateAndTime(until)],
      act(t("lift"), "small", () => askLift(kind, id, changed)),
    ]),
    ...mutes.map((mute) => [
      ...[t("mute"), mutedName(mute), mute.reason, dateAndTime(mute.until)],
      act(t("lift"), "small", () => askUnmute(mute, changed)),
    ]),
  ];
  const heads = [
    t("restriction"),
    t("what"),
    t("reason"),
    t("until"),
    { head: h("span", { class: "hidden" }, t("lift")), class: "act" },
  ];
  return [plainTable(t("restrictions"), heads, rows)];
}

async function readAll() {
  const [{ bans }, { mutes }] = await Promise.all([
    get<Answer<"banList">>(apiPath("bans")),
    // A stat of an earlier version knows none.
    get<Answer<"muteList">>(apiPath("mutes")).catch(() => ({ mutes: [] })),
  ]);
  return { bans, mutes };
}
