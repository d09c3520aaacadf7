/**
 * Removes secrets from everything that people and other programs read: log lines, errors, answers. Applied where an
 * error becomes text, not where it is thrown: drivers attach anything to their errors (ioredis attaches the arguments
 * of the command, AUTH included), and a server may repeat what it was sent.
 */
import { Buffer } from "node:buffer";

const mask = "***";

/** A shorter secret may also be part of common words: replacing it would make text unreadable and hide nothing. */
const shortestHidden = 6;

/** Shared by the whole process: a log line can quote a secret of another program in the same process. */
const hidden = new Set<string>();
let hiddenPattern: RegExp | undefined;

/** Patterns that look like secrets, also unknown ones. */
const suspects: readonly (readonly [pattern: RegExp, replacement: string])[] = [
  // The password in an address; `host:80/` contains none.
  [/(\b[a-z][a-z\d+.-]*:\/\/[^\s:@/"'`]*):(?!\d+[/?#\s])[^\s"'`]*@/gi, `$1:${mask}@`],
  [/\b(bearer|basic|gruproof)\s+[\w~+/.=-]{6,}/gi, `$1 ${mask}`],
  [/\beyJ[\w-]+\.[\w-]+\.[\w-]*/g, mask],
  [/\b(token[12]?|resume|password|secret|api_?key)=[^&\s"'`]+/gi, `$1=${mask}`],
  // How Redis quotes a command that it does not know.
  [/(args beginning with:).*/g, `$1 ${mask}`],
];

const secretField =
  /pass(word|phrase)?$|secret|token|authorization|credential|cookie|api_?key|clusterkey|^resume$/i;

/**
 * From now on {@linkcode redact} replaces this value, also in its usual encodings. Values below 6 characters are
 * ignored.
 */
export function hideSecret(value: string): void {
  // `user:password`, and the lines of a key.
  const parts = [value, value.slice(value.indexOf(":") + 1)];
  parts.push(...value.split("\n").filter((line) => line.length >= 16 && !line.startsWith("-----")));
  for (const part of parts) {
    if (part.length < shortestHidden) continue;
    hidden.add(part);
    if (part.isWellFormed()) hidden.add(encodeURIComponent(part));
    hidden.add(JSON.stringify(part).slice(1, -1));
    hidden.add(Buffer.from(part).toString("base64").replace(/=+$/, ""));
  }
  // The longest first, because one secret may be part of another.
  const all = [...hidden].sort((a, b) => b.length - a.length).map((text) =>
    text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")
  );
  hiddenPattern = all.length === 0 ? undefined : new RegExp(all.join("|"), "g");
}

/**
 * An address, even a malformed one, without its password: everything from the first colon after the scheme to the last
 * `@` is replaced.
 */
export function withoutPassword(address: string): string {
  const [scheme = ""] = /^([a-z][a-z\d+.-]*:\/\/|(rediss?|cluster|sentinel):)?/i.exec(address) ??
    [];
  return scheme + address.slice(scheme.length).replace(/^([^:@]*):.*@/s, `$1:${mask}@`);
}

/** The text without known secrets, passwords in addresses, tokens and command arguments. */
export function redact(text: string): string {
  let clean = hiddenPattern === undefined ? text : text.replace(hiddenPattern, mask);
  for (const [pattern, replacement] of suspects) clean = clean.replace(pattern, replacement);
  return clean;
}

/** `Error: what failed (CODE); cause: Error: why`, with the stack if requested. Never the error's other fields. */
export function describeError(error: unknown, options: { readonly stack?: boolean } = {}): string {
  return redact(textOf(error, options.stack ?? false, 0));
}

function textOf(error: unknown, stack: boolean, depth: number): string {
  if (typeof error === "string") return error;
  if (!(error instanceof Error)) return JSON.stringify(safeValue(error)) ?? String(error);
  const { message, cause } = error;
  const code = codeOf(error);
  let text = `${error.name}: ${message}`;
  if (code !== undefined && !text.includes(code)) text += ` (${code})`;
  if (stack) text += framesOf(error).map((frame) => `\n${frame}`).join("");
  const inner = error instanceof AggregateError ? error.errors.slice(0, 5) : [];
  for (const reason of cause === undefined || cause === null ? inner : [cause, ...inner]) {
    if (depth >= 4) break;
    // Most messages already contain their cause's message.
    if (!stack && reason instanceof Error && message.includes(reason.message)) continue;
    text += `${stack ? "\n" : "; "}cause: ${textOf(reason, stack, depth + 1)}`;
  }
  return text;
}

/**
 * A value for a log line. Errors become their name, message, code and cause; secret fields are masked; objects of
 * classes are not shown.
 */
export function safeValue(value: unknown, options: { readonly stack?: boolean } = {}): unknown {
  return cleaned(value, options.stack ?? false, 0);
}

function cleaned(value: unknown, stack: boolean, depth: number): unknown {
  if (typeof value === "string") return redact(value);
  if (typeof value === "bigint" || typeof value === "symbol") return String(value);
  if (typeof value === "function") return "[function]";
  if (typeof value !== "object" || value === null) return value;
  if (depth > 4) return "…";
  if (value instanceof Error) {
    const code = codeOf(value);
    return {
      name: value.name,
      message: redact(value.message),
      ...(code === undefined ? {} : { code }),
      ...(stack ? { stack: redact(framesOf(value).join("\n")) } : {}),
      ...(value.cause === undefined ? {} : { cause: cleaned(value.cause, stack, depth + 1) }),
      ...(value instanceof AggregateError
        ? { errors: value.errors.slice(0, 5).map((one) => cleaned(one, stack, depth + 1)) }
        : {}),
    };
  }
  if (Array.isArray(value)) return value.slice(0, 100).map((one) => cleaned(one, stack, depth + 1));
  if (value instanceof Date || value instanceof URL) return redact(String(value.toJSON()));
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== null && prototype !== Object.prototype) return `[${value.constructor?.name}]`;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [
      key,
      secretField.test(key) ? mask : cleaned(inner, stack, depth + 1),
    ]),
  );
}

function codeOf(error: Error): string | undefined {
  const { code } = error as { code?: unknown };
  return typeof code === "string" ? code : undefined;
}

function framesOf({ stack = "" }: Error): string[] {
  return stack.split("\n").filter((line) => /^\s+at /.test(line)).slice(0, 15);
}
