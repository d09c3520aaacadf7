import assert from "node:assert/strict";
import fc from "fast-check";
import { clientAddress, KeyedRateLimit } from "./rate_limit.ts";

Deno.test("KeyedRateLimit lets a burst through, then so many a second, for each key alone", () => {
  const limit = new KeyedRateLimit({ perSecond: 2, burst: 3, maxKeys: 10 });
  const taken = (key: string, nowMs: number) => limit.take(key, nowMs) === 0;
  assert.deepEqual([1, 2, 3, 4].map(() => taken("a", 1000)), [true, true, true, false]);
  assert.equal(limit.take("a", 1000), 500);
  assert.equal(taken("b", 1000), true);
  assert.deepEqual([1, 2].map(() => taken("a", 1500)), [true, false]);
  assert.deepEqual([1, 2, 3, 4].map(() => taken("a", 9000)), [true, true, true, false]);
});

Deno.test("KeyedRateLimit lets through no more than burst and rate, however it is asked", () => {
  const gaps = fc.array(fc.nat(400), { maxLength: 200 });
  fc.assert(fc.property(gaps, fc.integer({ min: 1, max: 20 }), (list, perSecond) => {
    const burst = 5;
    const limit = new KeyedRateLimit({ perSecond, burst, maxKeys: 10 });
    let nowMs = 0;
    let taken = 0;
    for (const gapMs of list) {
      nowMs += gapMs;
      if (limit.take("a", nowMs) === 0) taken++;
    }
    assert.ok(taken <= burst + perSecond * nowMs / 1000 + 1e-3);
  }));
});

Deno.test("KeyedRateLimit forgets the oldest key rather than grow", () => {
  const limit = new KeyedRateLimit({ perSecond: 0.001, burst: 1, maxKeys: 2 });
  for (const key of ["a", "b", "c"]) assert.equal(limit.take(key, 0), 0);
  assert.notEqual(limit.take("c", 0), 0);
  assert.notEqual(limit.take("b", 0), 0);
  assert.equal(limit.take("a", 0), 0);
});

for (
  const [what, forwarded, peer, hops, expected] of [
    ["the peer without proxies, whatever it says", "1.1.1.1", "2.2.2.2", 0, "2.2.2.2"],
    ["the last word of one proxy", "6.6.6.6, 1.1.1.1", "127.0.0.1", 1, "1.1.1.1"],
    ["the last but one of two", "6.6.6.6, 1.1.1.1, 10.0.0.1", "127.0.0.1", 2, "1.1.1.1"],
    ["the peer when a proxy said nothing", undefined, "2.2.2.2", 1, "2.2.2.2"],
    ["the peer when it came past the proxies", "1.1.1.1", "2.2.2.2", 2, "2.2.2.2"],
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
