// start a spear in this process, wait for stdin line, then dump heap by constructor
import v8 from "node:v8";
import { singleSpear } from "/work/main/spear/spear_testing.ts";
const spear = await singleSpear({ port: 31980, "limits.connections": 100000 });
console.log("up");
const rss0 = Deno.memoryUsage();
for await (const _ of Deno.stdin.readable) break;
(globalThis as any).gc?.();
(globalThis as any).gc?.();
const m = Deno.memoryUsage();
console.log(
  "heap",
  (m.heapUsed - rss0.heapUsed) / Number(Deno.args[0]) / 1024,
  "rss",
  (m.rss - rss0.rss) / Number(Deno.args[0]) / 1024,
  "ext",
  (m.external - rss0.external) / Number(Deno.args[0]) / 1024,
  "heapTotal",
  (m.heapTotal - rss0.heapTotal) / Number(Deno.args[0]) / 1024,
);
if (Deno.args[1]) v8.writeHeapSnapshot(Deno.args[1]);
Deno.exit();
