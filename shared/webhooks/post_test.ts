import assert from "node:assert/strict";
import { makeCertificates, tlsTest } from "../testing/certificates.ts";
import { projectRoot } from "../testing/harness.ts";
import { isPublicAddress, urlProblem } from "./address.ts";
import { PostError, type PostOptions, postWebhook } from "./post.ts";
import { retryAfterMs } from "./posting.ts";
import { verifyWebhook } from "./signature.ts";

const secrets = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

Deno.test("a receiver gets the message with a signature that fits, and its answer comes back", async () => {
  await using receiver = receive(async (request) => {
    const body = await request.text();
    const { id } = verifyWebhook(secrets, request.headers, body, { nowS: Date.now() / 1000 });
    return Response.json({ id, body, type: request.headers.get("content-type") }, { status: 201 });
  });
  const { status, body } = await send({ url: receiver.url, body: '{"a":"ü"}' });
  assert.equal(status, 201);
  assert.deepEqual(JSON.parse(body), { id: "m1", body: '{"a":"ü"}', type: "application/json" });
});

Deno.test("addresses that not everybody on the internet can have are refused, in every spelling", async () => {
  for (
    const host of [
      "127.0.0.1",
      "127.1",
      "2130706433",
      "0x7f.1",
      "0177.0.0.1",
      "0",
      "[::1]",
      "[::]",
      "[::ffff:127.0.0.1]",
      "[::ffff:7f00:1]",
      "[::127.0.0.1]",
      "169.254.169.254",
      "[fe80::1]",
      "10.0.0.1",
      "172.16.0.1",
      "192.168.1.1",
      "100.64.0.1",
      "[fc00::1]",
      "[fd12:3456::1]",
      "[64:ff9b::7f00:1]",
      "[2002:7f00:1::1]",
      "224.0.0.1",
      "255.255.255.255",
      "198.18.0.1",
    ]
  ) {
    await fails({ url: `http://${host}:9/` }, "address", /not a public address/);
  }
  assert(isPublicAddress("8.8.8.8") && isPublicAddress("2606:4700::1111"));
  assert(!isPublicAddress("example.com"));
});

Deno.test("a name that resolves to such an address is refused before anything is sent", async () => {
  let requests = 0;
  await using receiver = receive(() => {
    requests++;
    return new Response();
  });
  const url = receiver.url.replace("127.0.0.1", "localhost");
  await fails({ url, allowPrivate: false }, "address", /localhost is .*not a public address/);
  assert.equal(requests, 0);
  assert.equal((await send({ url })).status, 200);
});

tlsTest(
  "over https the certificate must be of an authority that is trusted, and for the name in the URL",
  async (stack) => {
    const { node, file } = await makeCertificates(stack);
    const server = Deno.serve(
      { port: 0, hostname: "127.0.0.1", cert: node.cert, key: node.key, onListen() {} },
      () => new Response("good"),
    );
    stack.defer(() => server.shutdown());
    const url = `https://127.0.0.1:${server.addr.port}/`;
    await fails({ url }, "network", /certificate/);
    const permissions = ["--no-prompt", "--allow-net", "--allow-sys=ca", "--ignore-env"];
    const urls = [url, url.replace("127.0.0.1", "localhost")];
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-check", ...permissions, "shared/webhooks/post_fixture.ts", ...urls],
      cwd: projectRoot,
      env: { NODE_EXTRA_CA_CERTS: file("ca.pem") },
      stderr: "inherit",
    }).output();
    const [trusted, misnamed] = new TextDecoder().decode(stdout).split("\n");
    assert.equal(trusted, "good");
    assert.match(misnamed ?? "", /localhost/);
  },
);

Deno.test("a redirect is an answer and is not followed", async () => {
  let requests = 0;
  await using receiver = receive((request) => {
    requests++;
    return Response.redirect(new URL("/inside", request.url));
  });
  assert.equal((await send({ url: receiver.url })).status, 302);
  assert.equal(requests, 1);
});

Deno.test("a URL that cannot be a receiver's is refused", async () => {
  for (const url of ["ftp://example.com/", "file:///etc/passwd", "nothing", "http://"]) {
    await fails({ url }, "address", /expected http/);
  }
  await fails({ url: "http://me:secret@example.com/" }, "address", /no user and password/);
  assert.equal(urlProblem("https://example.com/hooks", false), undefined);
});

Deno.test("an answer that is slow, endless or cut off is a failure of its own kind", async () => {
  const { promise: over, resolve: finish } = Promise.withResolvers<void>();
  await using receiver = receive(async (request) => {
    const path = new URL(request.url).pathname;
    if (path === "/long") return new Response("x".repeat(100_000));
    if (path === "/silent") await over;
    return new Response();
  });
  await fails({ url: `${receiver.url}silent`, timeoutMs: 200 }, "timeout", /200 ms/);
  await fails({ url: `${receiver.url}long` }, "answer", /more than 65536 bytes/);
  const controller = new AbortController();
  const asked = fails({ url: `${receiver.url}silent`, signal: controller.signal }, "aborted", /./);
  controller.abort();
  await asked;
  finish();
});

Deno.test("a receiver that is not there is a failure of the network", async () => {
  const gone = receive(() => new Response());
  await gone[Symbol.asyncDispose]();
  await fails({ url: gone.url }, "network", /./);
  await fails({ url: "http://nowhere.invalid/" }, "network", /./);
});

Deno.test("Retry-After is read as seconds and as a date", () => {
  assert.equal(retryAfterMs("7"), 7000);
  assert.equal(retryAfterMs("Thu, 01 Jan 1970 00:01:00 GMT", 50_000), 10_000);
  assert.equal(retryAfterMs("soon"), undefined);
});

function receive(handler: (request: Request) => Response | Promise<Response>) {
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, handler);
  return {
    url: `http://127.0.0.1:${server.addr.port}/`,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

function send(options: Partial<PostOptions> & { readonly url: string }) {
  return postWebhook({
    secrets,
    id: "m1",
    body: "{}",
    timeoutMs: 10_000,
    allowPrivate: true,
    ...options,
  });
}

async function fails(
  options: Partial<PostOptions> & { readonly url: string },
  kind: PostError["kind"],
  message: RegExp,
): Promise<void> {
  const literal = kind === "address" ? { allowPrivate: false } : {};
  await assert.rejects(send({ ...literal, ...options }), (error) => {
    assert(error instanceof PostError, String(error));
    assert.equal(error.kind, kind, `${options.url}: ${error.message}`);
    assert.match(error.message, message);
    return true;
  });
}
