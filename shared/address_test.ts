import assert from "node:assert/strict";
import {
  formatHostAndPort,
  hostSchema,
  isWildcard,
  parseHostAndPort,
  reachableHostSchema,
  reachableUrlSchema,
} from "./address.ts";

Deno.test("parseHostAndPort accepts names and addresses, IPv6 in brackets, and returns them without brackets", () => {
  for (
    const [text, host, port] of [
      ["localhost:80", "localhost", 80],
      ["10.0.0.1:65535", "10.0.0.1", 65535],
      ["a-b.c_d.example:1", "a-b.c_d.example", 1],
      ["[::1]:2181", "::1", 2181],
      ["[2001:db8::7]:8081", "2001:db8::7", 8081],
      ["[::ffff:10.0.0.1]:1", "::ffff:10.0.0.1", 1],
    ] as const
  ) {
    assert.deepEqual(parseHostAndPort(text), { host, port });
    assert.equal(formatHostAndPort({ host, port }), text);
  }
  for (
    const text of [
      ...[
        "",
        ":",
        "h",
        "h:",
        ":1",
        "h:0",
        "h:65536",
        "h:x",
        "h:1:2",
        "::1:2181",
        "[::1]",
        "[::1]:",
      ],
      ...["[]:1", "[::g]:1", "[h]:1", "h h:1", "u@h:1", "h/:1", "[::1:1", "::1]:1"],
    ]
  ) {
    assert.equal(parseHostAndPort(text), undefined, text);
  }
});

Deno.test("a host is a name or an address without a port; an address for others is not a wildcard", () => {
  const takes = (schema: ReturnType<typeof hostSchema>, host: string) =>
    schema.safeParse(host).success;
  for (const host of ["127.0.0.1", "::1", "[::1]", "gru.example", "fe80::1%eth0"]) {
    assert.ok(takes(hostSchema(), host) && takes(reachableHostSchema(), host), host);
  }
  assert.equal(hostSchema().parse("[::1]"), "::1");
  for (const host of ["", "127.0.0.1:80", "[::1]:80", "http://h", "a b", "::x", "u@h"]) {
    assert.ok(!takes(hostSchema(), host), host);
  }
  for (const host of ["0.0.0.0", "::", "[::]", "0", "0:0:0:0:0:0:0:0", "::ffff:0.0.0.0", "0x0"]) {
    assert.ok(isWildcard(host), host);
    assert.ok(takes(hostSchema(), host) && !takes(reachableHostSchema(), host), host);
  }
});

Deno.test("an address for clients is a URL that they can use", () => {
  for (const url of ["http://127.0.0.1:31001", "https://gru.example", "http://[::1]:31001"]) {
    assert.equal(reachableUrlSchema().parse(url), url);
  }
  for (
    const url of [
      ...["http://0.0.0.0:31001", "http://[::]:31001", "https://0:31001", "http://::1:31001"],
      ...["http://h:0", "http://h:99999", "http://", "ftp://h", "h:31001", "http://h/path"],
    ]
  ) {
    assert.ok(!reachableUrlSchema().safeParse(url).success, url);
  }
});
