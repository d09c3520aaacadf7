/** The way of one message through the nodes, in a dialog. */
import { type Answer, get, messageOf } from "./api.ts";
import { apiPath } from "./api_path.ts";
import { failures, type Kind } from "./dialogs.ts";
import { type Child, h, plainTable } from "./dom.ts";
import { count, dateAndTime, timeWithMs } from "./format.ts";
import { t } from "./words.ts";

export async function askTrail(
  id: string,
  target: { readonly kind: Kind; readonly id: string },
): Promise<void> {
  const content = h("div", { class: "part", role: "status" }, t("loading"));
  const dialog: HTMLDialogElement = h(
    "dialog",
    { class: "wide", "aria-label": t("trailOf", id) },
    h(
      "form",
      { method: "dialog" },
      h("h2", {}, t("trailOf", id)),
      content,
      h("div", { class: "row end" }, h("button", {}, t("close"))),
    ),
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  try {
    const query = new URLSearchParams({ [target.kind]: target.id });
    const trail = await get<Answer<"trail">>(`${apiPath("messages", id)}?${query}`);
    content.replaceChildren(...trailView(trail));
  } catch (error) {
    content.replaceChildren(h("p", { class: "problem" }, messageOf(error)));
  }
}

function trailView(trail: Answer<"trail">): HTMLElement[] {
  const { accepted, target, epoch, seq, nodes, createTime } = trail;
  const fact = (term: string, value: string): Child => [h("dt", {}, term), h("dd", {}, value)];
  const rows = nodes.map(({ node, receivedAt, connections, missed }) => [
    node,
    receivedAt === null ? "–" : timeWithMs(receivedAt),
    count(connections),
    missed.length === 0 ? "" : missed.map(({ userId }) => userId).join(", "),
  ]);
  const heads = [
    t("node"),
    t("received"),
    { head: t("connections"), class: "number" },
    t("missedBy"),
  ];
  const notAnswered = failures(trail);
  return [
    h(
      "dl",
      { class: "facts" },
      fact(t("to"), `${t(target.kind)} ${target.id}, seq ${seq}, epoch ${epoch}`),
      createTime === null ? undefined : fact(t("made"), `${dateAndTime(createTime)}`),
      fact(
        t("accepted"),
        accepted === null
          ? t("notRemembered")
          : `${timeWithMs(accepted.at)}, ${accepted.node}, ${t("user")} ${accepted.fromId}`,
      ),
    ),
    plainTable(t("nodes"), heads, rows),
    ...(notAnswered === "" ? [] : [h("p", { class: "problem" }, notAnswered)]),
  ];
}
