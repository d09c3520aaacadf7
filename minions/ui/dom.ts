/** Small helpers for plain DOM. */

export type Child = Node | string | undefined | readonly Child[];
export type Attributes = Readonly<
  Record<string, string | number | boolean | undefined | ((event: Event) => unknown)>
>;

/** `h("button", { class: "primary", onclick }, "Send")` */
export function h<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (name === "value") Reflect.set(element, name, `${value}`);
    else element.setAttribute(name, value === true ? "" : `${value}`);
  }
  addTo(element, children);
  return element;
}

function addTo(element: Element, children: readonly Child[]): void {
  for (const child of children) {
    if (Array.isArray(child)) addTo(element, child);
    else if (child !== undefined) element.append(child as Node | string);
  }
}

/** Sets a text only if it differs, so that a selection or a screen reader is not disturbed. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** A label with its field. */
export function field(label: string, control: Element): HTMLLabelElement {
  return h("label", { class: "field" }, h("span", {}, label), control);
}

/** A pill that shows a state, coloured by `state`. */
export function badge(text: string, state?: string): HTMLSpanElement {
  return h("span", { class: "badge", "data-state": state }, text);
}

/** A region that may be wider or higher than its place; the keyboard can scroll it too. */
export function scrolling(label: string, kind: string, ...children: readonly Child[]) {
  const attributes = { class: `scroll ${kind}`, tabindex: "0", role: "region" };
  return h("div", { ...attributes, "aria-label": label }, children);
}

export interface Head {
  readonly head: Child;
  readonly class?: string | undefined;
}

export function headRow(heads: readonly Head[]): HTMLTableSectionElement {
  const cells = heads.map((one) => h("th", { scope: "col", class: one.class }, one.head));
  return h("thead", {}, h("tr", {}, cells));
}

/** A table of records: on a phone each row is a card, whose cells say which column they are of. */
export const records = "records";

/** A cell of a table, of {@linkcode records} also. */
export function cellOf({ head, class: kind }: Head, child?: Child): HTMLTableCellElement {
  const name = typeof head === "string" ? head : head instanceof Node ? head.textContent ?? "" : "";
  return h("td", { class: kind, "data-head": name }, child);
}

/** A table that is rendered once; a column without a head contains buttons. @param kind `matrix`: rows and columns belong together */
export function plainTable(
  label: string,
  heads: readonly (string | Head)[],
  rows: readonly (readonly Child[])[],
  kind: typeof records | "matrix" = records,
): HTMLDivElement {
  const columns = heads.map((head) => typeof head === "string" ? { head } : head);
  const cell = (child: Child, i: number) => cellOf(columns[i] ?? { head: "" }, child);
  const body = h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map(cell))));
  return scrolling(label, kind, h("table", {}, headRow(columns), body));
}

/** Sets the options of a selection after its first one, and keeps the chosen one if it still exists. */
export function keepOptions(
  select: HTMLSelectElement,
  options: readonly { readonly value: string; readonly label: string }[],
): void {
  const [first, ...known] = select.options;
  if (first === undefined) return;
  const same = known.length === options.length &&
    known.every(({ value, label }, i) =>
      value === options[i]?.value && label === options[i]?.label
    );
  if (same) return;
  const chosen = select.value;
  select.replaceChildren(
    first,
    ...options.map(({ value, label }) => h("option", { value }, label)),
  );
  select.value = options.some(({ value }) => value === chosen) ? chosen : first.value;
}

export function brand(): HTMLSpanElement {
  return h("span", { class: "brand" }, h("span", { class: "mark", "aria-hidden": "true" }), "Gru");
}
