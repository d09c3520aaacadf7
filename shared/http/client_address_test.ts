import assert from "node:assert/strict";
import fc from "fast-check";
import { clientAddress } from "./client_address.ts";

for (
  const [what, forwarded, peer, hops, expected] of [
    [
      "the peer when no proxy is trusted, whatever the header says",
      "1.1.1.1",
      "2.2.2.2",
      0,
      "2.2.2.2",
    ],
    ["the last address with one trusted proxy", "6.6.6.6, 1.1.1.1", "127.0.0.1", 1, "1.1.1.1"],
    [
      "the last but one with two trusted proxies",
      "6.6.6.6, 1.1.1.1, 10.0.0.1",
      "127.0.0.1",
      2,
      "1.1.1.1",
    ],
    ["the peer when the header is missing", undefined, "2.2.2.2", 1, "2.2.2.2"],
    ["the peer when the header is too short", "1.1.1.1", "2.2.2.2", 2, "2.2.2.2"],
    ["a network of IPv6", "2001:db8:1:2:3:4:5:6", "::1", 1, "2001:db8:1:2::/64"],
    ["a network of short IPv6", undefined, "2001:DB8::7", 0, "2001:db8:0:0::/64"],
    ["IPv4 in IPv6", undefined, "::ffff:1.2.3.4", 0, "1.2.3.4"],
  ] as const
) {
  Deno.test(`clientAddress is ${what}`, () => {
    assert.equal(clientAddress(forwarded, peer, hops), expected);
  });
}

Deno.test("clientAddress of any header is short text", () => {
  fc.assert(fc.property(fc.string(), fc.string(), fc.nat(3), (forwarded, peer, hops) => {
    assert.ok(clientAddress(forwarded, peer, hops).length <= 64);
  }));
});
