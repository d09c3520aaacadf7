/** RPC over TLS, with certificates that the openssl command makes for the test. */
import assert from "node:assert/strict";
import { z } from "zod";
import { MemoryRegistry } from "../registry_memory.ts";
import { type HttpServer, serveHttp, type TlsFiles } from "../serve.ts";
import { openHttp } from "../serve_tls.ts";
import { connectRpc } from "./client.ts";
import { defineContract, type RpcError } from "./contract.ts";
import { readTls } from "./options.ts";
import { rpcHandler, serveContract } from "./server.ts";

const host = "127.0.0.1";
const contract = defineContract("secret", {
  tell: { input: z.strictObject({}), output: z.object({ word: z.string() }), idempotent: true },
});
const rpc = rpcHandler([serveContract(contract, { tell: () => ({ word: "xyzzy" }) })]);

/** Out of time or out of instances, as it happens: it goes on trying until then. */
function refused(error: unknown): boolean {
  const { code, message } = error as RpcError;
  return ["unavailable", "deadline_exceeded"].includes(code) && /certificate|Lost/i.test(message);
}

/** Two authorities; `node` is certified by the first, `stranger` by the second. */
async function makeCertificates(stack: AsyncDisposableStack) {
  const folder = await Deno.makeTempDir();
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  const key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
  for (const [ca, node] of [["ca", "node"], ["otherca", "stranger"]]) {
    await openssl(
      folder,
      `req -x509 ${key} -keyout ${ca}.key -out ${ca}.pem -days 2 -subj /CN=${ca} -addext basicConstraints=critical,CA:TRUE`,
    );
    await openssl(folder, `req ${key} -keyout ${node}.key -out ${node}.csr -subj /CN=${node}`);
    await Deno.writeTextFile(
      `${folder}/ext`,
      `subjectAltName=IP:${host}\nbasicConstraints=CA:FALSE`,
    );
    await openssl(
      folder,
      `x509 -req -in ${node}.csr -CA ${ca}.pem -CAkey ${ca}.key -CAcreateserial -days 2 -extfile ext -out ${node}.pem`,
    );
  }
  const file = (name: string) => `${folder}/${name}`;
  const read = (name: string) => Deno.readTextFileSync(file(name));
  return {
    file,
    node: { cert: read("node.pem"), key: read("node.key"), ca: read("ca.pem") },
    stranger: { cert: read("stranger.pem"), key: read("stranger.key"), ca: read("ca.pem") },
  };
}

async function openssl(folder: string, args: string): Promise<void> {
  const { success, stderr } = await new Deno.Command("openssl", {
    args: args.split(" "),
    cwd: folder,
    stdout: "null",
    stderr: "piped",
  }).output();
  assert(success, new TextDecoder().decode(stderr));
}

async function tell(server: HttpServer, tls: Partial<TlsFiles>): Promise<string> {
  await using registry = new MemoryRegistry();
  await registry.register({
    service: "secret",
    name: "secret1",
    addresses: { rpc: server.origin },
    startedAt: 1,
    meta: {},
  });
  await using client = await connectRpc(contract, { registry, timeoutMs: 2000, tls });
  return (await client.any.tell({})).word;
}

function tlsTest(name: string, fn: (stack: AsyncDisposableStack) => Promise<void>): void {
  Deno.test({
    name: hasOpenssl() ? name : `${name} [openssl not installed: apt-get install openssl]`,
    ignore: !hasOpenssl() && !Deno.env.get("CI"),
    fn: async () => {
      await using stack = new AsyncDisposableStack();
      await fn(stack);
    },
  });
}

function hasOpenssl(): boolean {
  try {
    return new Deno.Command("openssl", { args: ["version"], stdout: "null" }).outputSync().success;
  } catch {
    return false;
  }
}

tlsTest("calls over TLS reach a server whose authority is trusted, and no other", async (stack) => {
  const { node, stranger } = await makeCertificates(stack);
  const server = stack.use(
    serveHttp({ host, port: 0, handler: rpc, tls: { cert: node.cert, key: node.key } }),
  );
  assert.match(server.origin, /^https:/);
  assert.equal(await tell(server, { ca: node.ca }), "xyzzy");
  const impostor = stack.use(
    serveHttp({ host, port: 0, handler: rpc, tls: { cert: stranger.cert, key: stranger.key } }),
  );
  await assert.rejects(tell(impostor, { ca: node.ca }), refused);
});

tlsTest(
  "mutual TLS serves callers with a certificate of the cluster and refuses all others",
  async (stack) => {
    const { node, stranger } = await makeCertificates(stack);
    const server = stack.use(await openHttp({ host, port: 0, handler: rpc, tls: node }));
    assert.equal(await tell(server, node), "xyzzy");
    await assert.rejects(tell(server, { ca: node.ca }), refused);
    await assert.rejects(tell(server, stranger), refused);
    assert.equal(await tell(server, node), "xyzzy");
  },
);

tlsTest("the port behind mutual TLS answers nobody who comes past it", async (stack) => {
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
    await openHttp({
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
  // While a rightful caller is connected, too.
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
    const server = await openHttp({ host, port: 0, handler, tls: node });
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
    const next = await openHttp({ host, port: server.port, handler, tls: node });
    await assert.rejects(openHttp({ host, port: server.port, handler, tls: node }), {
      message: `Cannot listen on ${host}:${server.port}: the port is in use`,
    });
    await next[Symbol.asyncDispose]();
  },
);

tlsTest("readTls names the key and the file that is missing or no PEM", async (stack) => {
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
