/** Structured logging: LogTape, configured once by a program's `main.ts` and silent in tests. */
import {
  configureSync,
  getConsoleSink,
  getJsonLinesFormatter,
  getLogger,
  getTextFormatter,
  type Logger,
} from "@logtape/logtape";
import { z } from "zod";

export type { Logger };

export const logSchema = z.strictObject({
  level: z.enum(["debug", "info", "warning", "error"]).describe("the least severe level written"),
  format: z.enum(["text", "json"]).describe("lines for people or one JSON object a line"),
});

export type LogConfig = z.output<typeof logSchema>;

export function configureLog(config: LogConfig): void {
  const formatter = config.format === "json"
    ? getJsonLinesFormatter()
    : getTextFormatter({ timestamp: "date-time-tz" });
  configureSync({
    reset: true,
    sinks: { console: getConsoleSink({ formatter }) },
    loggers: [
      { category: "gru", lowestLevel: config.level, sinks: ["console"] },
      { category: ["logtape", "meta"], lowestLevel: "error", sinks: ["console"] },
    ],
  });
}

export function logger(program: string): Logger {
  return getLogger(["gru", program]);
}
