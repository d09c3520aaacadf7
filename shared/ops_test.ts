import assert from "node:assert/strict";
import { counter, Registry } from "./metrics.ts";
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

Deno.test("/readyz is 200 when every check holds and else 503, with the checks by name", async () => {
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

Deno.test("/readyz is 503 when asking fails", async () => {
  const { get } = handlerFor(() => {
    throw new Error("the store is gone");
  });
  assert.equal((await get("/readyz"))?.status, 503);
});

Deno.test("/metrics gives the program's own metrics and those of the process", async () => {
  const { get, metrics } = handlerFor(() => ({}));
  counter(metrics, { name: "gru_test_total", help: "test", labels: ["kind"] }).inc(
    { kind: "a" },
    3,
  );
  const response = await get("/metrics");
  assert.match(response?.headers.get("content-type") ?? "", /^text\/plain/);
  const text = await response?.text() ?? "";
  assert.match(text, /^gru_test_total\{kind="a"\} 3$/m);
  const resident = Number(/^process_resident_memory_bytes (\d+)$/m.exec(text)?.[1]);
  assert(resident > 1_000_000, `resident memory is ${resident}`);
  assert.match(text, /^process_event_loop_lag_seconds [\d.e-]+$/m);
});

Deno.test("a metric of the same name is made once in a registry", () => {
  const metrics = new Registry();
  const options = { name: "gru_twice_total", help: "test", labels: [] };
  assert.equal(counter(metrics, options), counter(metrics, options));
  opsHandler({ metrics, ready: () => ({}) });
  opsHandler({ metrics, ready: () => ({}) });
});

Deno.test("the ops handler leaves other paths to others and refuses other methods", async () => {
  const { get } = handlerFor(() => ({}));
  for (const path of ["/", "/healthz/x", "/stat/report", "/constructor"]) {
    assert.equal(await get(path), undefined);
  }
  assert.equal((await get("/metrics", "POST"))?.status, 405);
});
