import assert from "node:assert/strict";
import { loadConfig } from "@gru/shared/config";
import type { View } from "@gru/shared/registry/registry";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { connectRpc } from "@gru/shared/rpc/client";
import { slowTest, waitFor } from "@gru/shared/testing/harness";
import { idgenContract } from "./contract.ts";
import { type IdgenConfig, idgenSchema, startIdgen } from "./idgen.ts";

const profiles = new URL("./profiles/", import.meta.url);

function load(...args: string[]): IdgenConfig {
  return loadConfig({
    program: "idgen",
    schema: idgenSchema,
    profiles,
    args,
    environment: () => undefined,
  });
}

function config(changes: Partial<IdgenConfig> = {}): IdgenConfig {
  return { ...load("--registry", "memory:", "--port", "0"), ...changes };
}

const call = { deadline: Infinity, signal: new AbortController().signal };

Deno.test("idgen serves its contract over RPC", async () => {
  await using registry = new MemoryRegistry();
  await using _idgen = await startIdgen(config(), { registry });
  await using client = await connectRpc(idgenContract, { registry, timeoutMs: 5000 });
  const { next, getMsgId, decode, getServiceVersion } = client.any;
  const { ids } = await next({ count: 10_000 });
  assert.equal(new Set(ids).size, 10_000);
  const { id } = await getMsgId({});
  assert.ok(BigInt(id) > BigInt(ids.at(-1) ?? 0));
  const { timeMs, worker } = await decode({ id });
  assert.equal(worker, 0);
  assert.ok(Math.abs(timeMs - Date.now()) < 60_000);
  assert.match((await getServiceVersion({})).version, /^\d+\.\d+\.\d+$/);
});

Deno.test("idgen rejects bad input and keeps serving", async () => {
  await using registry = new MemoryRegistry();
  await using idgen = await startIdgen(config(), { registry });
  const bad: [method: string, input: unknown][] = [
    ["next", { count: 0 }],
    ["next", { count: 10_001 }],
    ["next", { count: 1.5 }],
    ["next", { count: "1" }],
    ["next", {}],
    ["next", null],
    ["next", { count: 1, more: true }],
    ["decode", { id: "" }],
    ["decode", { id: "-1" }],
    ["decode", { id: 5 }],
    ["decode", { id: "1".repeat(20) }],
    ["getMsgId", []],
  ];
  const url = `${idgen.address}/idgen`;
  const headers = { "content-type": "application/json" };
  for (const [method, input] of bad) {
    const body = JSON.stringify(input);
    const response = await fetch(`${url}/${method}`, { method: "POST", headers, body });
    assert.equal(response.status, 400, `${method} ${body}`);
    assert.equal((await response.json()).error.code, "invalid_argument");
  }
  const response = await fetch(`${url}/getMsgId`, { method: "POST", headers, body: "{}" });
  assert.match((await response.json()).id, /^\d{19}$/);
});

slowTest(
  "idgen, strict: one node issues, and the next one continues above its ids whatever the clock says",
  async () => {
    await using registry = new MemoryRegistry();
    await using stack = new AsyncDisposableStack();
    const clocks = [0, -3_600_000, 7_200_000, -5000];
    const nodes = [];
    for (const [index, offMs] of clocks.entries()) {
      nodes.push(stack.use(
        await startIdgen(config({ id: index + 1 }), { registry, wallMs: () => Date.now() + offMs }),
      ));
    }
    let last = 0n;
    for (const [index, node] of nodes.entries()) {
      await waitFor(() => node.worker !== undefined, { what: `node ${index} is active` });
      for (const other of nodes.slice(index + 1)) {
        await assert.rejects(async () => other.handlers.next({ count: 1 }, call), {
          code: "unavailable",
          retryable: true,
        });
      }
      for (let i = 0; i < 3; i++) {
        const { ids } = await node.handlers.next({ count: 5000 }, call);
        for (const id of ids) {
          assert.ok(BigInt(id) > last);
          last = BigInt(id);
        }
      }
      await node[Symbol.asyncDispose]();
    }
  },
);

Deno.test("idgen rejects calls while its clock is beyond the last id, and serves again when the clock is right", async () => {
  await using registry = new MemoryRegistry();
  let offMs = 100 * 365 * 86_400_000;
  const wallMs = () => Date.now() + offMs;
  await using idgen = await startIdgen(config(), { registry, wallMs });
  await assert.rejects(async () => idgen.handlers.next({ count: 1 }, call), {
    code: "unavailable",
  });
  offMs = 0;
  await waitFor(() => idgen.worker !== undefined);
  assert.equal((await idgen.handlers.next({ count: 5 }, call)).ids.length, 5);
});

slowTest("idgen, unique: all nodes issue, each with its own worker", async () => {
  await using registry = new MemoryRegistry();
  await using stack = new AsyncDisposableStack();
  const nodes = [];
  for (let id = 1; id <= 20; id++) {
    nodes.push(stack.use(await startIdgen(config({ id, order: "unique" }), { registry })));
  }
  assert.equal(new Set(nodes.map((node) => node.worker)).size, 20);
  const answers = await Promise.all(nodes.map((node) => node.handlers.next({ count: 9000 }, call)));
  assert.equal(new Set(answers.flatMap(({ ids }) => ids)).size, 180_000);
});

Deno.test("idgen, unique: a node waits for the worker that its profile names", async () => {
  await using registry = new MemoryRegistry();
  const fixed = (id: number) => config({ id, order: "unique", worker: 7 });
  await using first = await startIdgen(fixed(1), { registry });
  await using second = await startIdgen(fixed(2), { registry });
  assert.deepEqual([first.worker, second.worker], [7, undefined]);
  await first[Symbol.asyncDispose]();
  await waitFor(() => second.worker === 7);
});

Deno.test("idgen lists every node, and lists a node as callable only while it issues", async () => {
  await using registry = new MemoryRegistry();
  const seen = new Map<string, View>();
  for (const service of ["idgen", "idgen-node"]) {
    await registry.watch(service, (view) => void seen.set(service, view));
  }
  const names = (service: string) => seen.get(service)?.instances.map(({ name }) => name).join();
  await using first = await startIdgen(config({ id: 1 }), { registry });
  {
    await using _second = await startIdgen(config({ id: 2 }), { registry });
    await waitFor(() => names("idgen") === "idgen1" && names("idgen-node") === "idgen1,idgen2");
    await first[Symbol.asyncDispose]();
    await waitFor(() => names("idgen") === "idgen2" && names("idgen-node") === "idgen2");
    const metaOf = () => seen.get("idgen-node")?.instances[0]?.meta;
    await waitFor(() => metaOf()?.active === true, {
      what: "the listing shows the node as active",
    });
    assert.equal(metaOf()?.worker, 0);
  }
  assert.equal(names("idgen-node"), "");
  assert.equal(names("idgen"), "");
});

Deno.test("idgen is not ready while another node has its name, and is listed as soon as the name is free", async () => {
  await using registry = new MemoryRegistry();
  await using first = await startIdgen(config(), { registry });
  await using second = await startIdgen(config(), { registry });
  const readiness = async () => {
    const response = await fetch(`${second.address}/readyz`);
    return [response.status, (await response.json()).checks.announced];
  };
  assert.deepEqual(await readiness(), [503, false]);
  await first[Symbol.asyncDispose]();
  await waitFor(async () => (await readiness())[1] === true, { what: "the node is announced" });
  assert.deepEqual(await readiness(), [200, true]);
});

Deno.test("idgen's metrics count the issued ids and show whether the node is active", async () => {
  await using registry = new MemoryRegistry();
  await using idgen = await startIdgen(config(), { registry });
  await idgen.handlers.next({ count: 123 }, call);
  const text = await (await fetch(`${idgen.address}/metrics`)).text();
  assert.match(text, /^gru_idgen_ids_total\{.*\} 123$/m);
  assert.match(text, /^gru_idgen_active\{.*\} 1$/m);
  await waitFor(async () => {
    const response = await fetch(`${idgen.address}/readyz`);
    await response.body?.cancel();
    return response.ok;
  }, { what: "the node is ready" });
});

Deno.test("idgenSchema accepts the profiles and names what is wrong with other values", () => {
  for (const profile of ["dev", "test1", "test2"]) load("--profile", profile);
  const wrong: [args: string[], message: RegExp][] = [
    [["--worker", "3"], /worker: is 3; with order strict all nodes share one worker/],
    [["--order", "unique", "--worker", "1024"], /worker: is 1024/],
    [["--order", "any"], /order: is "any"/],
    [
      ["--ceilingMs", "4000"],
      /ceilingMs: is 4000; expected a value below zookeeper.sessionMs, or order unique/,
    ],
    [["--ceilingMs", "soon"], /ceilingMs: is "soon"/],
    [["--celing", "5"], /unknown flag --celing/],
  ];
  for (const [args, message] of wrong) assert.throws(() => load(...args), message);
  assert.equal(load("--order", "unique", "--worker", "1023").worker, 1023);
});
