import assert from "node:assert/strict";
import { openMetrics, Registry } from "../metrics.ts";
import { opsHandler } from "./ops.ts";

function handlerFor(ready: () => Record<string, boolean>) {
  const metrics = new Registry();
  const handler = opsHandler({ metrics, ready });
  const get = async (path: string, method = "GET") =>
    await handler(new Request(`http://127.0.0.1${path}`, { method }));
  return { metrics, get };
}

Deno.test("/healthz answers 200 even when the program is not ready", async () => {
  const { get } = handlerFor(() => ({ registry: false }));
  const response = await get("/healthz");
  assert.equal(response?.status, 200);
  assert.equal(await response.text(), "ok\n");
});

Deno.test("/readyz is 200 when every check is true and 503 otherwise, with the checks by name", async () => {
  let registry = false;
  const { get } = handlerFor(() => ({ registry, store: true }));
  const notReady = await get("/readyz");
  assert.equal(notReady?.status, 503);
  assert.deepEqual(await notReady.json(), {
    ready: false,
    checks: { registry: false, store: true },
  });
  registry = true;
  const ready = await get("/readyz");
  assert.equal(ready?.status, 200);
  assert.deepEqual(await ready.json(), { ready: true, checks: { registry: true, store: true } });
});

Deno.test("/readyz is 503 when a check throws", async () => {
  const { get } = handlerFor(() => {
    throw new Error("the store is gone");
  });
  assert.equal((await get("/readyz"))?.status, 503);
});

Deno.test("/metrics contains the program's own metrics and those of the process", async () => {
  const { get, metrics } = handlerFor(() => ({}));
  const definitions = {
    gru_test_total: { type: "counter", help: "test", labels: ["kind"] },
    gru_read_total: { type: "counter", help: "read when it is asked for" },
    gru_read: { type: "gauge", help: "each kind once", labels: ["kind"] },
    gru_unknown: { type: "gauge", help: "not known just now" },
  } as const;
  const { gru_test_total: total } = openMetrics(metrics, definitions, {
    gru_read_total: () => 7,
    gru_read: () => [[{ kind: "b" }, 5]],
    gru_unknown: () => undefined,
  });
  total.inc({ kind: "a" }, 3);
  const response = await get("/metrics");
  assert.match(response?.headers.get("content-type") ?? "", /^text\/plain/);
  const text = await response?.text() ?? "";
  assert.match(text, /^gru_test_total\{kind="a"\} 3$/m);
  assert.match(text, /^gru_read_total 7$/m);
  assert.match(text, /^gru_read\{kind="b"\} 5$/m);
  assert.match(text, /^gru_unknown (NaN|Nan)$/m);
  const resident = Number(/^process_resident_memory_bytes (\d+)$/m.exec(text)?.[1]);
  assert(resident > 1_000_000, `resident memory is ${resident}`);
  assert.match(text, /^process_event_loop_lag_seconds [\d.e-]+$/m);
});

Deno.test("a metric with the same name exists once in a registry", () => {
  const metrics = new Registry();
  const open = () =>
    openMetrics(metrics, { gru_twice_total: { type: "counter", help: "test" } }).gru_twice_total;
  assert.equal(open(), open());
  opsHandler({ metrics, ready: () => ({}) });
  opsHandler({ metrics, ready: () => ({}) });
});

Deno.test("the ops handler ignores other paths and rejects other methods", async () => {
  const { get } = handlerFor(() => ({}));
  for (const path of ["/", "/healthz/x", "/stat/report", "/constructor"]) {
    assert.equal(await get(path), undefined);
  }
  assert.equal((await get("/metrics", "POST"))?.status, 405);
});
