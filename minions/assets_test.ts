import assert from "node:assert/strict";
import { readAssets } from "./assets.ts";

Deno.test("readAssets returns every file that the page and its modules name, as JavaScript without types", () => {
  const assets = readAssets();
  const named = /(?:src|href)="(\/[^"]+)"|from "(\/[^"]+)"|from "\.\/([^"]+)"/g;
  const seen = new Set<string>();
  const follow = (path: string) => {
    if (seen.has(path)) return;
    seen.add(path);
    const asset = assets.get(path);
    assert.ok(asset, path);
    for (const [, link, library, module] of asset.text.matchAll(named)) {
      follow(link ?? library ?? `/ui/${module}`);
    }
    if (!path.endsWith(".ts")) return;
    assert.match(asset.type, /^text\/javascript/);
    assert.doesNotMatch(asset.text, /^\s*(import type|interface|type) /m, path);
  };
  follow("/");
  assert.ok(seen.has("/ui/client.ts") && seen.has("/ui/uplot.js"));
  assert.ok(seen.has("/ui/gru.js"));
});
