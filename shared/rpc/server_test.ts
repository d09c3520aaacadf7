import assert from "node:assert/strict";
import fc from "fast-check";
import { Registry } from "prom-client";
import { z } from "zod";
import { slowTest, waitFor } from "../testing/harness.ts";
import { defineContract } from "./contract.ts";
import { rpcHandler, type RpcServerOptions, serveContract } from "./server.ts";

const contract = defineContract("trial", {
  double: {
    input: z.strictObject({ n: z.number() }),
    output: z.object({ n: z.number() }),
    idempotent: true,
  },
  hang: { input: z.strictObject({}), output: z.strictObject({}), idempotent: true },
});

function open(options: RpcServerOptions = {}, hang = () => new Promise<never>(() => {})) {
  const rpc = rpcHandler(
    [serveContract(contract, { double: ({ n }) => ({ n: 2 * n }), hang })],
    options,
  );
  /** Sends a request as `fetch` would; returns the status and the body. */
  async function send(path: string, init: RequestInit = {}) {
    const { headers, ...rest } = init;
    const response = await rpc(
      new Request(`http://127.0.0.1${path}`, {
        method: "POST",
        body: '{"n":21}',
        ...rest,
        headers: { "content-type": "application/json", ...headers as Record<string, string> },
      }),
    );
    assert.equal(response.headers.get("content-type"), "application/json");
    return { status: response.status, body: await response.json() };
  }
  return { rpc, send };
}

function failure(code: string, message: string, retryable = false) {
  return { error: { code, message, retryable } };
}

Deno.test("a call is a POST of JSON and answered by JSON", async () => {
  const { send } = open();
  assert.deepEqual(await send("/trial/double"), { status: 200, body: { n: 42 } });
  const headers = { "content-type": "application/json; charset=utf-8" };
  assert.equal((await send("/trial/double", { headers })).status, 200);
});

Deno.test("unknown services and methods are not found, and the answer names the known ones", async () => {
  const { send } = open();
  assert.deepEqual(await send("/stat/double"), {
    status: 404,
    body: failure("not_found", "This program has no service stat; it has trial", true),
  });
  for (const path of ["halve", "", "constructor", "__proto__", "double/more", "double?x=1"]) {
    assert.deepEqual(await send(`/trial/${path}`), {
      status: 404,
      body: failure("not_found", `trial has no method ${path}; it has double, hang`),
    });
  }
  for (const path of ["/", "/trial", "//", "/__proto__/double"]) {
    assert.equal((await send(path)).status, 404);
  }
});

Deno.test("other HTTP methods are refused", async () => {
  const { send } = open();
  assert.deepEqual(await send("/trial/double", { method: "PUT" }), {
    status: 400,
    body: failure("invalid_argument", "PUT /trial/double: only POST is served"),
  });
});

Deno.test("an invalid body is rejected, and the answer says why", async () => {
  const { send } = open({ maxBodyBytes: 20 });
  const stream = () =>
    new ReadableStream({
      pull(controller) {
        controller.enqueue(new Uint8Array(8).fill(32));
      },
    });
  const cases: [RequestInit, string][] = [
    [{ body: "{" }, "The body is not JSON: {"],
    [{ body: "" }, "The body is not JSON: empty"],
    [
      { headers: { "content-type": "text/plain" } },
      "content-type: expected application/json, is text/plain",
    ],
    [
      { headers: { "content-type": "application/jsonx" } },
      "content-type: expected application/json, is application/jsonx",
    ],
    [{ headers: { "content-type": "" } }, "content-type: expected application/json, is missing"],
    [{ body: "null" }, "trial.double: the whole: expected object, is null"],
    [{ body: '{"m":1}' }, "trial.double: n: expected number, is missing; m: unknown field"],
    [{ headers: { "content-length": "21" } }, "the body: has 21 bytes; expected 20 at most"],
    [{ body: stream() }, "the body: has more than 20 bytes; expected 20 at most"],
  ];
  for (const [init, message] of cases) {
    assert.deepEqual(await send("/trial/double", init), {
      status: 400,
      body: failure("invalid_argument", message),
    });
  }
});

Deno.test("a body without a declared length is read up to the limit", async () => {
  const { send } = open();
  const body = new Blob(['{"n":', "4}"]).stream();
  assert.deepEqual(await send("/trial/double", { body }), { status: 200, body: { n: 8 } });
});

slowTest("random bodies are answered by a result or by invalid_argument", async () => {
  const { send } = open();
  const body = fc.oneof(fc.string({ unit: "binary" }), fc.json(), fc.constant('{"n":1e999}'));
  await fc.assert(
    fc.asyncProperty(body, async (body) => {
      const answer = await send("/trial/double", { body });
      assert([200, 400].includes(answer.status));
      if (answer.status === 400) assert.equal(answer.body.error.code, "invalid_argument");
    }),
    { numRuns: 500 },
  );
});

Deno.test("a time limit that is not a number of milliseconds is rejected", async () => {
  const { send } = open();
  for (const timeout of ["0", "-5", "1.5", "soon", "", "1e3", "99999999999"]) {
    const { status, body } = await send("/trial/double", {
      headers: { "gru-timeout-ms": timeout },
    });
    assert.equal(status, 400);
    assert.match(body.error.message, /^gru-timeout-ms: expected whole milliseconds/);
  }
});

Deno.test("a call that takes longer than the caller's time limit is ended", async () => {
  const { send } = open();
  assert.deepEqual(
    await send("/trial/hang", { body: "{}", headers: { "gru-timeout-ms": "20" } }),
    { status: 504, body: failure("deadline_exceeded", "trial.hang took longer than 20 ms") },
  );
});

Deno.test("a body that does not arrive is waited for until the time limit only", async () => {
  const { send } = open();
  const body = new ReadableStream();
  const answer = await send("/trial/double", { body, headers: { "gru-timeout-ms": "20" } });
  assert.equal(answer.status, 504);
});

Deno.test("with a cluster key only callers that know it are served, on every path", async () => {
  const { send } = open({ clusterKey: "open sesame" });
  const body = failure("unauthenticated", "The cluster key is missing or wrong");
  for (const authorization of ["", "open sesame", "Bearer open sesamo", "Bearer open sesame ü"]) {
    for (const path of ["/trial/double", "/none/none"]) {
      const headers: HeadersInit = authorization === "" ? {} : { authorization };
      assert.deepEqual(await send(path, { headers }), { status: 401, body });
    }
  }
  const headers = { authorization: "Bearer open sesame" };
  assert.equal((await send("/trial/double", { headers })).status, 200);
});

Deno.test("calls beyond the limit are rejected before their bodies are read", async () => {
  const release = Promise.withResolvers<Record<string, never>>();
  let held = false;
  const { send } = open({ maxConcurrent: 1 }, () => {
    held = true;
    return release.promise as never;
  });
  const holder = send("/trial/hang", { body: "{}" });
  await waitFor(() => held);
  assert.deepEqual(await send("/trial/double", { body: "not even JSON" }), {
    status: 429,
    body: failure("overloaded", "trial has 1 calls under way, its limit", true),
  });
  release.resolve({});
  assert.equal((await holder).status, 200);
  assert.equal((await send("/trial/double")).status, 200);
});

Deno.test("a draining server finishes its calls and rejects new ones without effect", async () => {
  const release = Promise.withResolvers<Record<string, never>>();
  let held = false;
  const { rpc, send } = open({}, () => {
    held = true;
    return release.promise as never;
  });
  const probe = { method: "GET", body: null };
  assert.deepEqual(await send("/trial", probe), {
    status: 200,
    body: { service: "trial", methods: ["double", "hang"] },
  });
  const underWay = send("/trial/hang", { body: "{}" });
  await waitFor(() => held);
  rpc.drain();
  const refusal = { status: 503, body: failure("unavailable", "trial is stopping", true) };
  assert.deepEqual(await send("/trial/double"), refusal);
  assert.deepEqual(await send("/trial", probe), refusal);
  release.resolve({});
  assert.equal((await underWay).status, 200);
});

Deno.test("calls are counted by method and result, with their durations", async () => {
  const metrics = new Registry();
  const { send } = open({ metrics });
  await send("/trial/double");
  await send("/trial/double");
  await send("/trial/double", { body: "x" });
  await send("/trial/none");
  const text = await metrics.metrics();
  const count = 'gru_rpc_server_seconds_count{service="trial",method="double"';
  assert(text.includes(`${count},code="ok"} 2`), text);
  assert(text.includes(`${count},code="invalid_argument"} 1`), text);
  // A name invented by a caller must not create a metric.
  assert(!text.includes("none"), text);
});

Deno.test("a service cannot be served twice or without a handler", () => {
  const service = serveContract(contract, { double: ({ n }) => ({ n }), hang: () => ({}) });
  assert.throws(() => rpcHandler([service, service]), /Service trial is listed twice/);
  assert.throws(
    () => rpcHandler([{ contract, handlers: { double: () => {} } }]),
    /trial\.hang has no handler/,
  );
});
