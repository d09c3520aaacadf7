import assert from "node:assert/strict";
import { cachedNodes, nodesRoute } from "./nodes.ts";

const nodes = [{ name: "spear1", addr: "http://1", weight: 1, load: 3, capacity: 10 }];

Deno.test("GET /nodes sends the list with an ETag and cache rules", async () => {
  let current = nodes;
  const app = nodesRoute(() => current);
  const first = await app.request("/nodes");
  assert.deepEqual(await first.json(), { nodes });
  assert.match(
    first.headers.get("cache-control") ?? "",
    /max-age=1, stale-while-revalidate=\d+, stale-if-error=\d+/,
  );
  const etag = first.headers.get("etag") ?? "";
  const ask = (tag: string) => app.request("/nodes", { headers: { "if-none-match": tag } });
  for (const tag of [etag, `"x", W/${etag}`]) {
    const same = await ask(tag);
    assert.equal(same.status, 304);
    assert.equal(same.headers.get("etag"), etag);
    assert.equal(await same.text(), "");
  }
  current = [{ ...nodes[0], load: 4 }] as typeof nodes;
  const changed = await ask(etag);
  assert.equal(changed.status, 200);
  assert.notEqual(changed.headers.get("etag"), etag);
});

/** A server whose answers the test chooses, and a clock. */
class Inner implements AsyncDisposable {
  readonly tags: (string | null)[] = [];
  answer: () => Response = () => Response.error();
  nowMs = 0;
  readonly #server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => {
      this.tags.push(request.headers.get("if-none-match"));
      return this.answer();
    },
  );

  readonly source = cachedNodes({
    url: `http://127.0.0.1:${this.#server.addr.port}/nodes`,
    nowMs: () => this.nowMs,
  });

  /** Returns what the source returns, after its work in the background has ended. */
  async ask() {
    const work: Promise<unknown>[] = [];
    const given = await this.source((promise) => work.push(promise));
    await Promise.all(work);
    return given;
  }

  async [Symbol.asyncDispose]() {
    await this.#server.shutdown();
  }
}

const control = "max-age=1, stale-while-revalidate=10, stale-if-error=100";

function list(nodes: unknown, tag: string): Response {
  return Response.json({ nodes }, { headers: { "cache-control": control, etag: tag } });
}

Deno.test("cachedNodes fetches a list that is old, serves the old one meanwhile, and accepts 304", async () => {
  await using inner = new Inner();
  inner.answer = () => list(nodes, '"1"');
  const first = await inner.ask();
  assert.deepEqual(first, nodes);
  inner.nowMs = 900;
  assert.equal(await inner.ask(), first);
  assert.equal(inner.tags.length, 1);

  inner.answer = () => new Response(null, { status: 304, headers: { "cache-control": control } });
  inner.nowMs = 5000;
  assert.equal(await inner.ask(), first);
  assert.deepEqual(inner.tags, [null, '"1"']);
  inner.nowMs = 5900;
  assert.equal(await inner.ask(), first);
  assert.equal(inner.tags.length, 2);

  inner.answer = () => list([], '"2"');
  inner.nowMs = 7000;
  assert.equal(await inner.ask(), first);
  assert.deepEqual(await inner.ask(), []);
});

Deno.test("cachedNodes serves the last list while fetching fails, and retries at most once a second", async () => {
  await using inner = new Inner();
  inner.answer = () => list(nodes, '"1"');
  await inner.ask();
  const failures = [
    () => new Response("busy", { status: 503 }),
    () => new Response("{", { headers: { "cache-control": control } }),
    () => list([{ name: 1 }], '"2"'),
    () => list(null, '"2"'),
  ];
  for (const [i, failure] of failures.entries()) {
    inner.answer = failure;
    inner.nowMs = 20_000 * (i + 1);
    const asked = inner.tags.length;
    for (let n = 0; n < 5; n++) assert.deepEqual(await inner.ask(), nodes);
    assert.equal(inner.tags.length, asked + 1);
  }
  inner.nowMs = 200_000;
  await assert.rejects(inner.ask());
  inner.answer = () => list([], '"3"');
  assert.deepEqual(await inner.ask(), []);
});

Deno.test("cachedNodes rejects when it never had a list", async () => {
  await assert.rejects(async () =>
    await cachedNodes({ url: "http://127.0.0.1:1/nodes" })(() => {})
  );
});
