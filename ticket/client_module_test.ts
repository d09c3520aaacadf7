import assert from "node:assert/strict";
import { clientModuleRoute } from "./client_module.ts";

const app = clientModuleRoute();

Deno.test("the client library is a module that pages of all sites may import and caches may keep", async () => {
  const response = await app.request("/gru.js", { headers: { origin: "https://shop.example" } });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("content-type"), "text/javascript; charset=utf-8");
  assert.equal(response.headers.get("access-control-allow-origin"), "*");
  assert.equal(response.headers.get("cross-origin-resource-policy"), "cross-origin");
  assert.match(response.headers.get("cache-control") ?? "", /^public, max-age=\d+/);
  const text = await response.text();
  const module = await import(`data:text/javascript;base64,${btoa(text)}`);
  assert.deepEqual(Object.keys(module).toSorted(), ["GruError", "connect"]);
});

Deno.test("a cache that has the present module gets 304", async () => {
  const first = await app.request("/gru.js");
  const etag = first.headers.get("etag") ?? "";
  assert.match(etag, /^"[\da-f]{24}"$/);
  await first.body?.cancel();
  for (const tag of [etag, `W/${etag}`, `"other", ${etag}`]) {
    const again = await app.request("/gru.js", { headers: { "if-none-match": tag } });
    assert.equal(again.status, 304);
    assert.equal(await again.text(), "");
    assert.equal(again.headers.get("access-control-allow-origin"), "*");
  }
  const other = await app.request("/gru.js", { headers: { "if-none-match": '"other"' } });
  assert.equal(other.status, 200);
  await other.body?.cancel();
});

Deno.test("HEAD answers the same headers as GET, without the module", async () => {
  const response = await app.request("/gru.js", { method: "HEAD" });
  assert.equal(response.status, 200);
  assert.match(response.headers.get("etag") ?? "", /"/);
  assert.equal(await response.text(), "");
});
