/** RPC over TLS, with certificates that the openssl command makes for the test. */
import assert from "node:assert/strict";
import { z } from "zod";
import { MemoryRegistry } from "../registry/memory.ts";
import { type HttpServer, serveHttp, type TlsFiles } from "../http/serve.ts";
import { makeCertificates, tlsTest } from "../testing/certificates.ts";
import { connectRpc } from "./client.ts";
import { defineContract, type RpcError } from "./contract.ts";
import { readTls } from "./options.ts";
import { rpcHandler, serveContract } from "./server.ts";

const host = "127.0.0.1";
const contract = defineContract("secret", {
  read: { input: z.strictObject({}), output: z.object({ word: z.string() }), idempotent: true },
});
const rpc = rpcHandler([serveContract(contract, { read: () => ({ word: "xyzzy" }) })]);

/** The error depends on timing: no time left, or no instance left. The client retries until then. */
function refused(error: unknown): boolean {
  const { code, message } = error as RpcError;
  return ["unavailable", "deadline_exceeded"].includes(code) && /certificate|Lost/i.test(message);
}

async function read(server: HttpServer, tls: Partial<TlsFiles>): Promise<string> {
  await using registry = new MemoryRegistry();
  await registry.register({
    service: "secret",
    name: "secret1",
    addresses: { rpc: server.origin },
    startedAt: 1,
    meta: {},
  });
  await using client = await connectRpc(contract, { registry, timeoutMs: 2000, tls });
  return (await client.any.read({})).word;
}

tlsTest("calls over TLS reach a server with a trusted authority, and no other", async (stack) => {
  const { node, stranger } = await makeCertificates(stack);
  const server = stack.use(
    await serveHttp({ host, port: 0, handler: rpc, tls: { cert: node.cert, key: node.key } }),
  );
  assert.match(server.origin, /^https:/);
  assert.equal(await read(server, { ca: node.ca }), "xyzzy");
  const impostor = stack.use(
    await serveHttp({
      host,
      port: 0,
      handler: rpc,
      tls: { cert: stranger.cert, key: stranger.key },
    }),
  );
  await assert.rejects(read(impostor, { ca: node.ca }), refused);
});

tlsTest(
  "mutual TLS serves callers with a certificate of the cluster and rejects all others",
  async (stack) => {
    const { node, stranger } = await makeCertificates(stack);
    const server = stack.use(await serveHttp({ host, port: 0, handler: rpc, tls: node }));
    assert.equal(await read(server, node), "xyzzy");
    await assert.rejects(read(server, { ca: node.ca }), refused);
    await assert.rejects(read(server, stranger), refused);
    assert.equal(await read(server, node), "xyzzy");
  },
);

tlsTest("the inner port behind mutual TLS answers no direct connection", async (stack) => {
  const { node } = await makeCertificates(stack);
  const { serve } = Deno;
  const inner: number[] = [];
  const spy = (...args: Parameters<typeof serve>) => {
    const server = serve(...args);
    inner.push((server.addr as Deno.NetAddr).port);
    return server;
  };
  Deno.serve = spy as typeof serve;
  stack.defer(() => void (Deno.serve = serve));
  const server = stack.use(
    await serveHttp({
      host,
      port: 0,
      tls: node,
      handler: (_, { remoteAddr }) => new Response(remoteAddr.hostname),
    }),
  );
  assert.equal(inner.length, 1);
  assert.notEqual(inner[0], server.port);
  const http = Deno.createHttpClient({ caCerts: [node.ca], cert: node.cert, key: node.key });
  stack.defer(() => http.close());
  // Also while an authorised caller is connected.
  assert.equal(await (await fetch(server.origin, { client: http })).text(), host);
  const past = await fetch(`http://${host}:${inner[0]}/`);
  assert.equal(past.status, 403);
  assert.equal(await past.text(), "");
});

tlsTest(
  "a server with mutual TLS finishes what is under way when disposed, and frees its port",
  async (stack) => {
    const { node } = await makeCertificates(stack);
    const began = Promise.withResolvers<void>();
    const finish = Promise.withResolvers<void>();
    const handler = async () => {
      began.resolve();
      await finish.promise;
      return new Response("finished");
    };
    const server = await serveHttp({ host, port: 0, handler, tls: node });
    const http = Deno.createHttpClient({
      caCerts: [node.ca],
      cert: node.cert,
      key: node.key,
      http1: false,
    });
    stack.defer(() => http.close());
    const underWay = fetch(server.origin, { client: http }).then((response) => response.text());
    await began.promise;
    const disposed = server[Symbol.asyncDispose]();
    finish.resolve();
    assert.equal(await underWay, "finished");
    await disposed;
    const next = await serveHttp({ host, port: server.port, handler, tls: node });
    await assert.rejects(serveHttp({ host, port: server.port, handler, tls: node }), {
      message: `Cannot listen on ${host}:${server.port}: the port is in use`,
    });
    await next[Symbol.asyncDispose]();
  },
);

tlsTest("readTls names the key and the file that is missing or not PEM", async (stack) => {
  const { file, node } = await makeCertificates(stack);
  const config = {
    timeoutMs: 1,
    maxConcurrent: 1,
    certFile: file("node.pem"),
    keyFile: file("node.key"),
    caFile: file("ca.pem"),
  };
  assert.deepEqual(readTls(config), node);
  assert.equal(readTls({ timeoutMs: 1, maxConcurrent: 1 }), undefined);
  assert.throws(
    () => readTls({ ...config, caFile: file("none.pem") }),
    /^ConfigError: rpc\.caFile: cannot read .*none\.pem/,
  );
  assert.throws(() => readTls({ ...config, keyFile: file("ext") }), /rpc\.keyFile: .*not a PEM/);
});
