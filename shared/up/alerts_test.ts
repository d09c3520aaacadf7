/** The dashboard, the alerts and the runbook: they name what there is, and a real Prometheus understands them. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { freePort, serverTest, waitFor } from "@gru/shared/testing/harness";
import { startPrometheus } from "@gru/shared/testing/prometheus";
import { authenticated } from "../../spear/spear_testing.ts";
import { allMetrics } from "./metrics_page.ts";
import { TestCluster } from "./processes.ts";
import { assertSuccess } from "./scenario.ts";

const docs = (file: string) => fileURLToPath(new URL(`../docs/${file}`, import.meta.url));
const read = (file: string) => Deno.readTextFileSync(docs(file));

const alerts = [...read("alerts.yaml").matchAll(/- alert: (\w+)/g)].map(([, name = ""]) => name);

interface Panel {
  readonly title: string;
  readonly targets?: readonly { readonly expr: string }[];
}

const queries = (JSON.parse(read("grafana.json")).panels as Panel[]).flatMap((panel) =>
  (panel.targets ?? []).map(({ expr }) => ({ title: panel.title, expr }))
);

Deno.test("the dashboard and the alerts name metrics that exist, and labels that these have", () => {
  const defined = new Map(allMetrics.flatMap(([, metrics]) => Object.entries(metrics)));
  const uses = `${read("alerts.yaml")} ${queries.map(({ expr }) => expr).join("\n")}`
    .matchAll(/\b((?:gru|process)_\w+)(?:\{([^}]*)\})?/g);
  for (const [, name = "", matchers = ""] of uses) {
    const metric = defined.get(name) ?? defined.get(name.replace(/_(bucket|count|sum)$/, ""));
    assert(metric !== undefined, `${name} is no metric of Gru`);
    const labels = ["node", "job", "instance", "le", ...metric.labels ?? []];
    for (const [, label = ""] of matchers.matchAll(/(\w+)\s*(?:=~|!=|!~|=)/g)) {
      assert(labels.includes(label), `${name} has no label ${label}`);
    }
  }
});

Deno.test("each alert has a section in the runbook and a test of its rule", () => {
  assert(alerts.length > 10);
  const sections = [...read("runbook.md").matchAll(/^## (Gru\w+)$/gm)].map(([, name]) => name);
  assert.deepEqual(sections, alerts);
  for (const alert of alerts) {
    assert(read("alerts.test.yaml").includes(`alertname="${alert}"`), alert);
    assert(read("alerts.yaml").includes(`runbook.md#${alert.toLowerCase()}`), alert);
  }
});

serverTest({
  name: "promtool finds the alerts right, and each of them fires and goes out in its test",
  needs: "prometheus",
  fn: async () => {
    for (const args of [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]]) {
      const options = { args, cwd: docs("."), stdout: "piped", stderr: "piped" } as const;
      const { success, stdout, stderr } = await new Deno.Command("promtool", options).output();
      const text = new TextDecoder();
      assert(success, text.decode(stdout) + text.decode(stderr));
    }
  },
});

serverTest({
  name: "a real Prometheus answers the dashboard's queries, and alerts of real faults fire and end",
  needs: ["prometheus", "zookeeper", "redis"],
  fn: async () => {
    await using cluster = await TestCluster.start({ tickMs: 500 });
    const canaryMs = 200;
    const httpPort = freePort();
    const [spear1, spear2, , idgen, ticket, minions] = await Promise.all([
      cluster.add("spear", "test1", { id: 1, canaryMs, drainMs: 0 }),
      cluster.add("spear", "test1", { id: 2, canaryMs, drainMs: 0 }),
      cluster.add("stat", "test1", { httpPort }),
      cluster.add("idgen", "test1"),
      cluster.add("ticket", "test1"),
      cluster.add("minions", "test1", {}, { GRU_MINIONS_PASSWORD: "a password" }),
    ]);
    await using prometheus = await startPrometheus({
      targets: [spear1, spear2, idgen, ticket, minions].map(({ monitor }) => monitor)
        .concat(`http://127.0.0.1:${httpPort}`),
      // At once, so that the test need not wait.
      rules: read("alerts.yaml").replaceAll(/^ +for: .*\n/gm, ""),
    });
    const fires = (alert: string, firing: boolean) =>
      waitFor(async () => (await prometheus.firing()).has(alert) === firing, {
        what: `${alert} ${firing ? "to fire" : "to go out"}`,
      });

    const since = { epoch: "an old one", seq: 1 };
    await using ann = await authenticated(spear1.address, 1);
    const subscribeGroups = [{ id: 10 }];
    assertSuccess(await ann.request("subscribe", { userId: 1, subscribeGroups }));
    assertSuccess(await ann.request("msg", { type: 1, target: { id: 10 }, content: "hello" }));
    await waitFor(async () => (await prometheus.query("sum(up)"))[0] === 6);
    await waitFor(async () => (await prometheus.query("max(gru_stat_users)"))[0] === 1);
    await using ben = await authenticated(spear2.address, 2);
    await ben.request("subscribe", { userId: 2, subscribeGroups: [{ id: 10, since }] });
    assert.equal((await ben.request("msg", { type: 7 })).errorCode, 1003);
    await (await fetch(`${ticket.address}/ticket?userId=`)).body?.cancel();
    // What nobody has done or what has not gone wrong has no value.
    const quiet = ["Commands over the API", "Console: pages and sign-ins", "RPC calls that failed"];
    for (const { title, expr } of queries) {
      const asked = expr.replaceAll("$node", ".*").replaceAll("$__rate_interval", "10s");
      await waitFor(
        async () => (await prometheus.query(asked)).length > 0 || quiet.includes(title),
        { what: `Prometheus to answer ${title}: ${expr}` },
      );
    }
    await waitFor(async () => (await prometheus.firing()).size === 0);

    cluster.redis.freeze();
    await Promise.all(["GruBrokerAway", "GruStoreAway"].map((alert) => fires(alert, true)));
    cluster.redis.thaw();
    await Promise.all(["GruBrokerAway", "GruStoreAway"].map((alert) => fires(alert, false)));

    await spear2.process.kill("SIGKILL");
    await fires("GruNodeDown", true);
    await spear2.restart();
    await fires("GruNodeDown", false);

    await idgen.process.kill("SIGKILL");
    await fires("GruNoIdgen", true);
    await idgen.restart();
    await fires("GruNoIdgen", false);
  },
});
