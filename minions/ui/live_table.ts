/** A table whose rows are kept by key, so that an update neither moves the focus nor rebuilds unchanged rows. */
import { cellOf, type Child, h, headRow, records, scrolling, setText } from "./dom.ts";

export type Column<T> =
  & { readonly head: Child; readonly class?: string }
  & (
    | { readonly text: (item: T) => string }
    /** Gets the element it returned last for this row, to be changed and returned. */
    | { readonly node: (item: T, last: HTMLElement | undefined) => HTMLElement }
  );

interface Row {
  readonly element: HTMLTableRowElement;
  readonly cells: readonly HTMLTableCellElement[];
}

export interface LiveTableOptions<T> {
  readonly label: string;
  /** Shown when there are no rows; before the first `show` nothing is shown. */
  readonly empty: string;
  readonly columns: readonly Column<T>[];
  readonly keyOf: (item: T) => string;
  readonly classOf?: (item: T) => string;
}

export class LiveTable<T> {
  readonly element: HTMLDivElement;
  readonly #options: LiveTableOptions<T>;
  readonly #body = h("tbody");
  readonly #note: HTMLParagraphElement;
  readonly #rows = new Map<string, Row>();

  constructor(options: LiveTableOptions<T>) {
    this.#options = options;
    const { label, empty, columns } = options;
    this.#note = h("p", { class: "empty", hidden: true }, empty);
    const table = h("table", {}, headRow(columns), this.#body);
    this.element = scrolling(label, records, table, this.#note);
  }

  show(items: readonly T[]): void {
    const { columns, keyOf, classOf } = this.#options;
    const keys = new Set(items.map(keyOf));
    for (const [key, { element }] of this.#rows) {
      if (keys.has(key)) continue;
      element.remove();
      this.#rows.delete(key);
    }
    items.forEach((item, i) => {
      const { element, cells } = this.#rowOf(keyOf(item));
      columns.forEach((column, n) => {
        const cell = cells[n];
        if (cell !== undefined) show(cell, column, item);
      });
      const kind = classOf?.(item) ?? "";
      if (element.className !== kind) element.className = kind;
      const place = this.#body.children[i];
      if (place !== element) this.#body.insertBefore(element, place ?? null);
    });
    this.#note.hidden = items.length > 0;
  }

  #rowOf(key: string): Row {
    const known = this.#rows.get(key);
    if (known !== undefined) return known;
    const cells = this.#options.columns.map((column) => cellOf(column));
    const row = { element: h("tr", {}, cells), cells };
    this.#rows.set(key, row);
    return row;
  }
}

function show<T>(cell: HTMLTableCellElement, column: Column<T>, item: T): void {
  if ("text" in column) return setText(cell, column.text(item));
  const last = cell.firstElementChild;
  const made = column.node(item, last instanceof HTMLElement ? last : undefined);
  if (made !== last) cell.replaceChildren(made);
}
