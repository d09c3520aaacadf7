import assert from "node:assert/strict";
import { sameOrigin } from "./same_origin.ts";

const own = { names: ["127.0.0.1", "spear.internal"], allowedHosts: ["console.example"] };
const unkeyed = sameOrigin({ ...own, namesOnly: true, linked: ["/"] });
const keyed = sameOrigin({ ...own, namesOnly: false });

function ask(host: string, headers: Record<string, string> = {}, path = "/nodes", method = "GET") {
  return new Request(`http://${host}${path}`, { method, headers: { host, ...headers } });
}

async function problemOf(response: Response | undefined): Promise<string | undefined> {
  if (response === undefined) return undefined;
  assert.equal(response.status, 403);
  const { error } = await response.json();
  assert.equal(error.code, "forbidden");
  return error.message;
}

Deno.test("a port without a key is served under its own names only", async () => {
  const good = [
    ...[
      "127.0.0.1:40000",
      "127.0.0.1",
      "localhost:40000",
      "LOCALHOST",
      "[::1]:40000",
      "127.8.9.1:1",
    ],
    ...["[0:0:0:0:0:0:0:1]:1", "spear.internal:31002", "Spear.Internal", "console.example"],
  ];
  for (const host of good) assert.equal(unkeyed(ask(host)), undefined, host);
  const foreign = [
    ...["evil.example", "evil.example:40000", "localhost.evil.example", "127.0.0.1.nip.io:40000"],
    ...[
      "10.0.0.1",
      "[::2]:40000",
      "0.0.0.0:40000",
      "xconsole.example",
      "console.example.evil.example",
    ],
  ];
  for (const host of foreign) {
    assert.match(await problemOf(unkeyed(ask(host))) ?? "", /^Host: is "/, host);
    assert.equal(keyed(ask(host)), undefined, `${host}, with a key`);
  }
  // Either name must be an accepted one.
  for (
    const [url, host] of [["127.0.0.1", "evil.example"], ["evil.example", "127.0.0.1"]] as const
  ) {
    const request = new Request(`http://${url}/`, { headers: { host } });
    assert.match(await problemOf(unkeyed(request)) ?? "", /^Host/);
  }
});

Deno.test("an accepted name does not make another name accepted", async () => {
  const guard = sameOrigin({ ...own, namesOnly: true });
  for (let i = 0; i < 2; i++) {
    assert.equal(guard(ask("localhost:1")), undefined);
    assert.notEqual(guard(ask("evil.example:1")), undefined);
  }
});

Deno.test("pages of other origins are rejected, with a key and without", async () => {
  const host = "127.0.0.1:40000";
  for (const guard of [unkeyed, keyed]) {
    for (const method of ["GET", "POST", "DELETE", "OPTIONS"]) {
      for (
        const origin of [
          "http://evil.example",
          "null",
          "http://127.0.0.1:3000",
          "file://",
          "http://localhost:40000",
          "",
        ]
      ) {
        const problem = await problemOf(guard(ask(host, { origin }, "/nodes", method)));
        assert.match(problem ?? "", /^Origin: is "/, `${method} ${origin}`);
      }
      for (const site of ["cross-site", "same-site", "odd"]) {
        const problem = await problemOf(
          guard(ask(host, { "sec-fetch-site": site }, "/nodes", method)),
        );
        assert.match(problem ?? "", /^Sec-Fetch-Site: is "/, `${method} ${site}`);
      }
      for (const site of ["same-origin", "none"]) {
        assert.equal(guard(ask(host, { "sec-fetch-site": site }, "/nodes", method)), undefined);
      }
      assert.equal(guard(ask(host, { origin: `http://${host}` }, "/nodes", method)), undefined);
      assert.equal(guard(ask(host, { origin: "https://console.example" }, "/", method)), undefined);
      assert.equal(guard(ask(host, {}, "/nodes", method)), undefined, "no browser");
    }
  }
});

Deno.test("a page whose name was pointed to this machine (DNS rebinding) is rejected", async () => {
  const headers = { origin: "http://evil.example:40000", "sec-fetch-site": "same-origin" };
  assert.match(await problemOf(unkeyed(ask("evil.example:40000", headers))) ?? "", /^Host/);
  assert.match(await problemOf(unkeyed(ask("127.0.0.1:40000", headers))) ?? "", /^Origin/);
});

Deno.test("behind a proxy that changes the name, a page of ours is recognised by the browser's or the proxy's headers", async () => {
  const origin = "https://gru.example";
  assert.notEqual(keyed(ask("127.0.0.1:40000", { origin })), undefined);
  for (const sign of [{ "sec-fetch-site": "same-origin" }, { "x-forwarded-host": "Gru.example" }]) {
    const headers = { origin, ...sign } as Record<string, string>;
    assert.equal(keyed(ask("127.0.0.1:40000", headers, "/sign-in", "POST")), undefined);
    assert.notEqual(unkeyed(ask("127.0.0.1:40000", headers, "/sign-in", "POST")), undefined);
  }
});

Deno.test("a link on another site opens only paths that may be linked", () => {
  const link = {
    "sec-fetch-site": "cross-site",
    "sec-fetch-mode": "navigate",
    "sec-fetch-dest": "document",
  };
  const host = "127.0.0.1:40000";
  assert.equal(unkeyed(ask(host, link, "/")), undefined);
  assert.notEqual(unkeyed(ask(host, link, "/nodes")), undefined);
  assert.notEqual(unkeyed(ask(host, link, "/", "POST")), undefined);
  assert.notEqual(unkeyed(ask(host, { ...link, "sec-fetch-dest": "iframe" }, "/")), undefined);
  assert.notEqual(unkeyed(ask(host, { ...link, "sec-fetch-mode": "no-cors" }, "/")), undefined);
  assert.notEqual(unkeyed(ask("evil.example", link, "/")), undefined);
});
