/** Structured logging: LogTape, configured once by a program's `main.ts` and silent in tests. */
import {
  configureSync,
  type ConsoleSinkOptions,
  getConsoleSink,
  getJsonLinesFormatter,
  getLogger,
  getTextFormatter,
  type Logger,
  type LogRecord,
  type TextFormatter,
} from "@logtape/logtape";
import { z } from "zod";
import manifest from "./deno.json" with { type: "json" };
import { describeError, redact, safeValue } from "./redact.ts";

export type { Logger };

export const logSchema = z.strictObject({
  level: z.enum(["debug", "info", "warning", "error"]).default("info")
    .describe("the least severe level that is written"),
  format: z.enum(["text", "json"]).default("text")
    .describe("text: lines for people; json: one JSON object on each line"),
}).prefault({});

export type LogConfig = z.output<typeof logSchema>;

/** The property of a logger that names the program's instance: `node` in a message may be another one. */
export const instanceKey = "gruInstance";

/** The console as the runtime gives it. */
const output = { ...console } as unknown as NonNullable<ConsoleSinkOptions["console"]>;

/** @param node the name of the program's instance, for lines that do not give another */
export function configureLog(config: LogConfig, node?: string): void {
  const formatter = logFormatter(config, node);
  configureSync({
    reset: true,
    sinks: { console: getConsoleSink({ formatter, console: output }) },
    loggers: [
      { category: "gru", lowestLevel: config.level, sinks: ["console"] },
      { category: ["logtape", "meta"], lowestLevel: "error", sinks: ["console"] },
    ],
  });
}

/** What libraries and the runtime write with `console` becomes lines of this log. */
export function takeConsole(log: Logger, target: Partial<Console> = console): void {
  const levels = {
    error: "error",
    warn: "warn",
    info: "info",
    log: "info",
    debug: "debug",
  } as const;
  for (const [method, level] of Object.entries(levels)) {
    Reflect.set(target, method, (...parts: unknown[]) => {
      const text = parts.map((part) => typeof part === "string" ? part : describeError(part));
      log[level]("a library says: {text}", { text: text.join(" ") });
    });
  }
}

/**
 * Log lines without secrets, each with the program, its instance and its version. An error becomes its message with its
 * causes, without the fields that drivers attach.
 * @param ownNode of lines that do not give another one
 */
export function logFormatter({ level, format }: LogConfig, ownNode = ""): TextFormatter {
  const write = format === "json" ? getJsonLinesFormatter() : getTextFormatter({
    timestamp: "date-time-tz",
    category: "",
    format: ({ timestamp, level, message, record }) =>
      `${timestamp} [${level}] ${record.category.join(" ")}: ${message}`,
    value: (value, inspect) => value instanceof Described ? value.text : inspect(value),
  });
  /** The message of a JSON line is read by people, too: texts in it are not quoted again. */
  const inJson = (value: unknown) =>
    typeof value === "string" ? value : JSON.stringify(value) ?? "";
  return (record) => {
    const stack = level === "debug" || isDefect(record);
    const part = (value: unknown) => {
      if (format === "json") {
        return inJson(value instanceof Error ? describeError(value, { stack }) : safeValue(value));
      }
      return value instanceof Error
        ? new Described(describeError(value, { stack }))
        : safeValue(value);
    };
    const parts = record.message.map((one, i) => i % 2 === 0 ? redact(String(one)) : part(one));
    const [, program = record.category[0] ?? ""] = record.category;
    const { [instanceKey]: node = ownNode || program, ...others } = record.properties;
    const line = write({
      ...record,
      category: format === "json" ? record.category : [String(node), manifest.version],
      message: format === "json" ? [parts.join("")] : parts,
      properties: safeValue(others, { stack }) as Record<string, unknown>,
    });
    if (format === "text") return line;
    const origin = JSON.stringify({ program, node, version: manifest.version });
    return `${origin.slice(0, -1)},${line.slice(1)}`;
  };
}

/** Text that must not be quoted again. */
class Described {
  constructor(readonly text: string) {}
}

/** A failed start is for the operator and needs its reason only; an error while running is for a programmer. */
function isDefect({ level, properties }: LogRecord): boolean {
  const { error } = properties;
  return level === "error" ||
    [TypeError, RangeError, ReferenceError, SyntaxError].some((kind) => error instanceof kind);
}

export function logger(program: string): Logger {
  return getLogger(["gru", program]);
}
