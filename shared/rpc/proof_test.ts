import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import fc from "fast-check";
import { z } from "zod";
import { MemoryRegistry } from "../registry/memory.ts";
import { serveHttp } from "../http/serve.ts";
import { connectRpc } from "./client.ts";
import { defineContract } from "./contract.ts";
import { bodyHash, Hmac, proofHeader, Prover, type RequestParts, Verifier } from "./proof.ts";
import { rpcHandler, serveContract } from "./server.ts";

const key = "the key of this cluster";
const callee = "http://127.0.0.1:1";

function verifier(options: { key?: string; callee?: string; use?: "rpc" | "api" } = {}) {
  const { use = "rpc", ...rest } = options;
  return new Verifier({
    key: rest.key ?? key,
    use,
    callee: () => rest.callee ?? callee,
    keyName: "K",
  });
}

function request(parts: RequestParts, authorization: string): Request {
  return new Request(callee + parts.path, { method: parts.method, headers: { authorization } });
}

const parts: RequestParts = { method: "POST", path: "/a/b", terms: ["5"] };

/** Lets the prover learn the callee's life and clock, as the first rejection does. */
function introduce(prover: Prover, server: Verifier): void {
  const call = prover.prove(parts, undefined);
  const { refusal, proveAnswer } = server.verify(
    request(parts, call.authorization),
    ...parts.terms,
  );
  assert.equal(refusal, "outdated");
  assert.equal(prover.check(call, 401, proveAnswer?.(401, "x") ?? null, "x"), "renewed");
}

Deno.test("the signature is HMAC-SHA256 with a separate key for each purpose", () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), fc.string({ unit: "grapheme" }), (key, purpose, text) => {
      const derived = createHmac("sha256", key).update(purpose).digest("hex");
      const expected = createHmac("sha256", derived).update(text).digest("hex");
      const hmac = new Hmac(purpose, key);
      assert.equal(hmac.of(text), expected);
      assert.equal(hmac.of(text), expected);
    }),
  );
});

Deno.test("a proof is accepted once, by the callee that it was made for, and the answer is proved", () => {
  const [prover, server] = [new Prover(key, "rpc", callee), verifier()];
  introduce(prover, server);
  const call = prover.prove(parts, '{"n":1}');
  assert.ok(!call.authorization.includes(key));
  const verified = server.verify(request(parts, call.authorization), "5");
  assert.equal(verified.refusal, undefined);
  assert.equal(verified.bodyHash, bodyHash('{"n":1}'));
  assert.equal(prover.check(call, 200, verified.proveAnswer?.(200, "{}") ?? null, "{}"), "proved");
  assert.equal(server.verify(request(parts, call.authorization), "5").refusal, "used");
});

Deno.test("a proof is valid for one method, path, set of terms, callee, use and key", () => {
  const [prover, server] = [new Prover(key, "rpc", callee), verifier()];
  introduce(prover, server);
  const { authorization } = prover.prove(parts, "{}");
  const servers: [Verifier, RequestParts][] = [
    [server, { ...parts, method: "PUT" }],
    [server, { ...parts, path: "/a/c" }],
    [server, { ...parts, path: "/a/b?x" }],
    [server, { ...parts, terms: ["6"] }],
    [verifier({ callee: "http://127.0.0.1:2" }), parts],
    [verifier({ key: "another key" }), parts],
    [verifier({ use: "api" }), parts],
  ];
  for (const [server, other] of servers) {
    const { refusal, proveAnswer } = server.verify(request(other, authorization), ...other.terms);
    assert.deepEqual([refusal, proveAnswer], ["wrong", undefined]);
  }
  assert.equal(server.verify(request(parts, authorization), "5").refusal, undefined);
});

Deno.test("a changed proof, of a call or of an answer, is rejected", () => {
  const [prover, server] = [new Prover(key, "rpc", callee), verifier()];
  introduce(prover, server);
  fc.assert(fc.property(fc.nat(), fc.integer({ min: 1, max: 126 }), (at, shift) => {
    const call = prover.prove(parts, "{}");
    const change = (text: string) => {
      const i = at % text.length;
      const code = (text.charCodeAt(i) - 1 + shift) % 126 + 1;
      return text.slice(0, i) + String.fromCharCode(code) + text.slice(i + 1);
    };
    const changed = change(call.authorization).replace(/[^!-~ ]/g, "!").trim();
    if (changed !== call.authorization && !/^gruproof/i.test(changed.slice(0, 8))) return;
    const verified = server.verify(request(parts, call.authorization), "5");
    const proveAnswer = verified.proveAnswer?.(200, "{}") ?? "";
    assert.equal(
      prover.check(call, 200, change(proveAnswer), "{}"),
      change(proveAnswer) === proveAnswer ? "proved" : "no",
    );
    assert.equal(prover.check(call, 201, proveAnswer, "{}"), "no");
    assert.equal(prover.check(call, 200, proveAnswer, "{ }"), "no");
    assert.notEqual(server.verify(request(parts, changed), "5").refusal, undefined);
  }));
});

Deno.test("proofs may arrive out of order, and none is accepted twice", () => {
  const [prover, server] = [new Prover(key, "rpc", callee), verifier()];
  introduce(prover, server);
  const order = fc.shuffledSubarray([...Array(200).keys()], { minLength: 200 });
  fc.assert(
    fc.property(order, (order) => {
      const calls = order.map(() => prover.prove(parts, "{}").authorization);
      const verify = (i: number) => server.verify(request(parts, calls[i] ?? ""), "5").refusal;
      for (const i of order) assert.equal(verify(i), undefined);
      for (const i of order) assert.equal(verify(i), "used");
    }),
    { numRuns: 10 },
  );
});

Deno.test("a proof for an earlier life of the callee is rejected, and the caller makes a new one", () => {
  const [prover, before, after] = [new Prover(key, "rpc", callee), verifier(), verifier()];
  introduce(prover, before);
  const recorded = prover.prove(parts, "{}");
  assert.equal(before.verify(request(parts, recorded.authorization), "5").refusal, undefined);
  assert.equal(after.verify(request(parts, recorded.authorization), "5").refusal, "outdated");
  introduce(prover, after);
  const call = prover.prove(parts, "{}");
  assert.equal(after.verify(request(parts, call.authorization), "5").refusal, undefined);
});

Deno.test("a proof that arrives too late is rejected with the difference", () => {
  const realNow = performance.now;
  try {
    const [prover, server] = [new Prover(key, "rpc", callee), verifier()];
    introduce(prover, server);
    const { authorization } = prover.prove(parts, "{}");
    performance.now = () => realNow.call(performance) + 31_000;
    const verified = server.verify(request(parts, authorization), "5");
    assert.equal(verified.refusal, "outdated");
    assert.match(verified.message ?? "", /-31 s off this program's clock; 30 s are allowed/);
  } finally {
    performance.now = realNow;
  }
});

const contract = defineContract("who", {
  write: { input: z.strictObject({}), output: z.object({ name: z.string() }), idempotent: false },
});

/** Two servers; one of them is another program that the registry lists under the service's name. */
Deno.test("an impostor listed in the registry learns nothing, cannot forward a call, and gets no calls", async () => {
  await using stack = new AsyncDisposableStack();
  const registry = stack.use(new MemoryRegistry());
  let written = 0;
  let address = "";
  const rpc = rpcHandler(
    [serveContract(contract, { write: () => ({ name: `true ${++written}` }) })],
    { clusterKey: key, address: () => address },
  );
  const server = stack.use(await serveHttp({ host: "127.0.0.1", port: 0, handler: rpc }));
  address = server.origin;
  const seen: string[] = [];
  const impostor = stack.use(
    await serveHttp({
      host: "127.0.0.1",
      port: 0,
      handler: async (request) => {
        const authorization = request.headers.get("authorization") ?? "";
        seen.push(`${request.method} ${authorization} ${await request.text()}`);
        const { pathname } = new URL(request.url);
        const passed = await fetch(address + pathname, {
          method: request.method,
          headers: { authorization, "content-type": "application/json" },
        });
        const text = await passed.text();
        assert.equal(passed.status, 401, text);
        assert.equal(passed.headers.get(proofHeader), null);
        // The impostor lies.
        return request.method === "GET"
          ? Response.json({ service: "who", methods: ["write"] })
          : Response.json({ name: "false" });
      },
    }),
  );
  for (const [name, origin] of [["who1", server.origin], ["who2", impostor.origin]] as const) {
    const addresses = { rpc: origin };
    await registry.register({ service: "who", name, addresses, startedAt: 1, meta: {} });
  }
  const client = stack.use(
    await connectRpc(contract, { registry, timeoutMs: 5000, appearMs: 100, clusterKey: key }),
  );
  for (let i = 1; i <= 50; i++) assert.equal((await client.any.write({})).name, `true ${i}`);
  await assert.rejects(client.at("who2").write({}), {
    code: "unauthenticated",
    message: /who at who2 .* did not prove the cluster key/,
  });
  assert.ok(seen.length > 0);
  for (const line of seen) assert.match(line, /^GET GruProof [\w.-]+ $/);
});

Deno.test("old callers that send the key are served, and present callers never send it", async () => {
  const rpc = rpcHandler([serveContract(contract, { write: () => ({ name: "a" }) })], {
    clusterKey: key,
  });
  const send = (authorization: string) =>
    rpc(
      new Request("http://127.0.0.1/who/write", {
        method: "POST",
        body: "{}",
        headers: { "content-type": "application/json", authorization },
      }),
    );
  assert.equal((await send(`Bearer ${key}`)).status, 200);
  assert.equal((await send(`Bearer ${key}x`)).status, 401);
});

Deno.test("calls to a restarted server succeed without a failure", async () => {
  await using stack = new AsyncDisposableStack();
  const registry = stack.use(new MemoryRegistry());
  const open = () =>
    rpcHandler([serveContract(contract, { write: () => ({ name: "a" }) })], { clusterKey: key });
  let rpc = open();
  const server = stack.use(
    await serveHttp({ host: "127.0.0.1", port: 0, handler: (request) => rpc(request) }),
  );
  const addresses = { rpc: server.origin };
  await registry.register({ service: "who", name: "who1", addresses, startedAt: 1, meta: {} });
  const client = stack.use(
    await connectRpc(contract, { registry, timeoutMs: 5000, clusterKey: key }),
  );
  for (let i = 0; i < 3; i++) {
    assert.equal((await client.any.write({})).name, "a");
    rpc = open();
  }
});
