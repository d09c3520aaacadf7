/// <reference lib="deno.ns" />
import assert from "node:assert/strict";
import { pageModule } from "./build.ts";
import { slowTest } from "@gru/shared/testing/harness";

slowTest("the committed module for pages is made of the library as it is", async () => {
  const committed = Deno.readTextFileSync(new URL("gru.js", import.meta.url));
  assert.ok(committed === await pageModule(), "gru.js is out of date: deno task client:build");
});
