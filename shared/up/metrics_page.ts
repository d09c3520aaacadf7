/** The page of all metrics, made from their definitions: `shared/docs/metrics.md`. */
import { idgenMetrics } from "../../idgen/idgen.ts";
import { minionsMetrics } from "../../minions/metrics.ts";
import { spearMetrics } from "../../spear/metrics.ts";
import { statMetrics } from "../../stat/metrics.ts";
import { ticketMetrics } from "../../ticket/metrics.ts";
import { clockMetrics } from "../clock_watch.ts";
import { processMetrics } from "../http/ops.ts";
import type { Definition, Definitions } from "../metrics.ts";
import { nodeMetrics } from "../node.ts";
import { rpcMetrics } from "../rpc/metrics.ts";
import { decisionMetrics } from "../webhooks/metrics.ts";

/** By the programs that have them. */
export const allMetrics: readonly (readonly [title: string, metrics: Definitions])[] = [
  ["Every program", { ...nodeMetrics, ...clockMetrics, ...rpcMetrics, ...processMetrics }],
  ["spear", { ...spearMetrics, ...decisionMetrics }],
  ["ticket", { ...ticketMetrics, ...decisionMetrics }],
  ["stat", statMetrics],
  ["idgen", idgenMetrics],
  ["minions", minionsMetrics],
];

const introduction = `# Metrics

<!-- \`deno task docs\` writes this page. Change the definitions in the code instead: their words are these. -->

Every program answers \`GET /metrics\` in Prometheus' text format: spear on its monitor port (\`port\` + 1), the others on
their own port. It needs no key: let only your own network reach these ports. Each metric has the label \`node\`, the
name of the program's instance. Durations are in seconds. No label has values that clients can make up, so the number of
time series is bounded.

[grafana.json](grafana.json) is a dashboard, [alerts.yaml](alerts.yaml) holds alerts for Prometheus, and the
[runbook](runbook.md) says what to do about each of them.
`;

export function metricsPage(): string {
  const sections = allMetrics.map(([title, metrics]) => {
    const rows = Object.entries(metrics).map(([name, definition]) => row(name, definition));
    return `## ${title}\n\n${table([["metric", "type", "labels", "meaning"], ...rows])}\n`;
  });
  return [introduction, ...sections].join("\n");
}

function row(name: string, { type, help, labels = [] }: Definition): string[] {
  return [`\`${name}\``, type, labels.map((label) => `\`${label}\``).join(", "), help];
}

/** As `deno fmt` writes it. */
function table([head = [], ...rows]: readonly (readonly string[])[]): string {
  const widths = head.map((_, i) => Math.max(...[head, ...rows].map((row) => row[i]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(" | ")} |`;
  return [line(head), line(widths.map((width) => "-".repeat(width))), ...rows.map(line)].join("\n");
}
