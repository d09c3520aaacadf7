/** Small helpers for plain DOM, and calls to the console's own server. */

/** `h("button", { class: "primary", onclick }, "Send")`; children are nodes, texts, lists of them, or nothing. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== undefined && child !== null));
  return element;
}

/** Sets a text only where it is another one: what is selected or read aloud stays. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * A table whose rows are kept by key, so that a live update neither moves the focus nor rebuilds what is the same.
 * A cell is a text, or is made once for each row and given every update by `update`.
 */
export function liveTable({ label, columns, empty }) {
  const body = h("tbody");
  const note = h("p", { class: "empty" }, empty);
  const heads = columns.map(({ head, number }) =>
    h("th", { scope: "col", class: number && "number" }, head)
  );
  const element = h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    h("table", {}, h("thead", {}, h("tr", {}, heads)), body),
    note,
  );
  const rows = new Map();
  return {
    element,
    show(items, keyOf, classOf = () => "") {
      const kept = new Set(items.map(keyOf));
      for (const [key, row] of rows) {
        if (kept.has(key)) continue;
        row.element.remove();
        rows.delete(key);
      }
      items.forEach((item, i) => {
        const key = keyOf(item);
        let row = rows.get(key);
        if (row === undefined) {
          row = { cells: columns.map(({ number }) => h("td", { class: number && "number" })) };
          row.element = h("tr", {}, row.cells);
          rows.set(key, row);
        }
        columns.forEach(({ text, node }, n) => {
          const cell = row.cells[n];
          if (text !== undefined) setText(cell, text(item));
          else if (cell.childNodes.length === 0 || node.length > 1) {
            const made = node(item, cell.firstChild);
            if (made !== cell.firstChild) cell.replaceChildren(made);
          }
        });
        row.element.className = classOf(item);
        if (body.children[i] !== row.element) {
          body.insertBefore(row.element, body.children[i] ?? null);
        }
      });
      note.hidden = items.length > 0;
    },
  };
}

/** A server's answer that is not 2xx, with its own message. */
export class CallError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function call(method, path, body, headers = {}) {
  const response = await fetch(path, {
    method,
    headers: {
      ...(method === "GET" ? {} : { "x-gru": "console" }),
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  if (response.status === 401) dispatchEvent(new Event("signed-out"));
  throw new CallError(response.status, answer.error?.message ?? `HTTP ${response.status}`);
}

export const get = (path) => call("GET", path);

export function count(number) {
  return Number(number ?? 0).toLocaleString(document.documentElement.lang);
}

export function rate(number) {
  return Number(number ?? 0).toLocaleString(document.documentElement.lang, {
    maximumFractionDigits: number < 100 ? 1 : 0,
  });
}

export function megabytes(bytes) {
  return `${Math.round(bytes / 1_048_576).toLocaleString(document.documentElement.lang)} MB`;
}

/** `3 d 4 h`, `5 min`, `12 s` */
export function duration(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor(s % 86_400 / 3600)} h`;
}

export function timeOfDay(at) {
  return new Date(at).toLocaleTimeString(document.documentElement.lang, { hour12: false });
}

export function dateAndTime(at) {
  return new Date(at).toLocaleString(document.documentElement.lang, {
    dateStyle: "medium",
    timeStyle: "short",
    hour12: false,
  });
}

/** A label with its field. */
export function field(label, control) {
  return h("label", { class: "field" }, h("span", {}, label), control);
}
