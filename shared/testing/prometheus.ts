/** A real Prometheus that reads the metrics of a test's programs every half second. */
import { stringify } from "node:querystring";
import { freePort, ServerProcess } from "./harness.ts";

export interface PrometheusServer extends AsyncDisposable {
  /** The values of what an expression finds now; throws when Prometheus cannot answer it. */
  query(expression: string): Promise<number[]>;
  /** The names of the alerts that fire now. */
  firing(): Promise<ReadonlySet<string>>;
}

/**
 * @param targets addresses of programs, with `http://`
 * @param rules the text of a file of rules
 */
export async function startPrometheus(
  { targets, rules }: { readonly targets: readonly string[]; readonly rules: string },
): Promise<PrometheusServer> {
  const folder = await Deno.makeTempDir({ prefix: "gru_prometheus_" });
  const address = `127.0.0.1:${freePort()}`;
  await Deno.writeTextFile(`${folder}/rules.yaml`, rules);
  const hosts = targets.map((target) => new URL(target).host);
  await Deno.writeTextFile(
    `${folder}/prometheus.yml`,
    [
      "global: { scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms }",
      `rule_files: ["${folder}/rules.yaml"]`,
      "scrape_configs:",
      `  - { job_name: gru, static_configs: [{ targets: ${JSON.stringify(hosts)} }] }`,
    ].join("\n"),
  );
  const process = new ServerProcess("prometheus", {
    args: [
      `--config.file=${folder}/prometheus.yml`,
      `--storage.tsdb.path=${folder}/data`,
      `--web.listen-address=${address}`,
    ],
    cwd: folder,
  });
  const ask = async (path: string) => {
    const answer = await (await fetch(`http://${address}${path}`)).json();
    if (answer.status !== "success") throw new Error(`${path}: ${answer.error}`);
    return answer.data;
  };
  await process.ready(async () => {
    const response = await fetch(`http://${address}/-/ready`).catch(() => undefined);
    await response?.body?.cancel();
    return response?.ok ?? false;
  }, { what: "prometheus" });
  return {
    async query(expression) {
      const { result } = await ask(`/api/v1/query?${stringify({ query: expression })}`);
      return result.map(({ value }: { value: [number, string] }) => Number(value[1]));
    },
    async firing() {
      const { alerts } = await ask("/api/v1/alerts");
      return new Set(
        alerts.filter(({ state }: { state: string }) => state === "firing")
          .map(({ labels }: { labels: { alertname: string } }) => labels.alertname),
      );
    },
    async [Symbol.asyncDispose]() {
      await process.kill();
      await Deno.remove(folder, { recursive: true });
    },
  };
}
