import assert from "node:assert/strict";
import fc from "fast-check";
import {
  encodeMessage,
  encodePacket,
  EventError,
  nestsDeeper,
  parseArgument,
  wireId,
} from "./wire.ts";

const events = ["auth", "subscribe", "unsubscribe", "msg", "online"] as const;

Deno.test("parseArgument gives a value or an EventError with code 1003, whatever it is given", () => {
  const anything = fc.oneof(fc.anything(), fc.jsonValue(), fc.json());
  fc.assert(
    fc.property(fc.constantFrom(...events), anything, (event, raw) => {
      try {
        parseArgument(event, raw);
      } catch (error) {
        assert.ok(error instanceof EventError, String(error));
        assert.equal(error.errorCode, 1003);
        assert.ok(error.message.startsWith(event));
        assert.ok(error.message.length < 400);
      }
    }),
    { numRuns: 3000 },
  );
});

Deno.test("parseArgument takes a message as a value or as JSON, and numbers or strings as ids, alike", () => {
  const id = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
  fc.assert(fc.property(id, fc.constantFrom(0, 1), fc.string(), (id, type, content) => {
    const expected = { type, targetId: String(id), content };
    for (const target of [{ id }, { id: String(id), type: 9 }]) {
      const message = { type, target, content };
      assert.deepEqual(parseArgument("msg", message).value, expected);
      assert.deepEqual(parseArgument("msg", JSON.stringify(message)).value, expected);
    }
  }));
});

Deno.test("parseArgument keeps what is not a member of the contract out", () => {
  const raw = JSON.parse('{"type":1,"target":{"id":1},"content":"x","__proto__":{"a":1},"b":2}');
  const { value } = parseArgument("msg", raw);
  assert.deepEqual(Object.keys(value).sort(), ["content", "targetId", "type"]);
  assert.equal(({} as Record<string, unknown>).a, undefined);
});

Deno.test("brackets in a JSON text nest 32 levels deep at most, those inside of its strings as many as they like", () => {
  const message = {
    type: 1,
    target: { id: 10 },
    content: `${"[{".repeat(2000)}\\"]${'"['.repeat(2000)}\\`,
  };
  assert.equal(parseArgument("msg", JSON.stringify(message)).value.content, message.content);
  const nested = (levels: number, inner: string) =>
    `{"type":1,"target":{"id":10},"content":"${"x".repeat(2000)}","x":${
      "[".repeat(levels)
    }${inner}${"]".repeat(levels)}}`;
  assert.equal(parseArgument("msg", nested(31, '"[[[[]]"')).value.targetId, "10");
  for (const text of [nested(32, ""), nested(20_000, ""), "[".repeat(90_000)]) {
    assert.throws(() => parseArgument("msg", text), /nested more than 32 levels deep/);
  }
});

Deno.test("wireId gives a number where one holds the id exactly, else the string", () => {
  assert.equal(wireId("10"), 10);
  assert.equal(wireId("9007199254740991"), 9007199254740991);
  for (const id of ["9007199254740992", "9223372036854775807", "room", "010", "1.0", ""]) {
    assert.equal(wireId(id), id);
  }
});

Deno.test("encodePacket is the socket.io packet of the message with its position, for any content", () => {
  const text = fc.string({ unit: "binary" });
  fc.assert(
    fc.property(
      text,
      fc.nat(),
      fc.stringMatching(/^[0-9a-f-]{1,13}$/),
      (content, before, epoch) => {
        const seq = before + 1;
        const body = encodeMessage({
          id: "123",
          createTime: 5,
          fromId: "7",
          type: 1,
          targetId: "10",
          content,
          expireTime: 0,
        });
        const packet = encodePacket(body, epoch, seq);
        assert.ok(packet.startsWith("20["));
        const message = {
          id: "123",
          createTime: 5,
          fromId: 7,
          msgType: 1,
          target: { id: 10, type: -1 },
          content,
          expireTime: 0,
          seq,
          epoch,
        };
        assert.deepEqual(JSON.parse(packet.slice(2)), ["msg", JSON.parse(JSON.stringify(message))]);
      },
    ),
  );
});

Deno.test("nestsDeeper sees the depth of any JSON text without parsing it", () => {
  const depth = (value: unknown): number =>
    typeof value === "object" && value !== null
      ? 1 + Math.max(0, ...Object.values(value).map(depth))
      : 0;
  const text = fc.string({ unit: fc.constantFrom(...'[]{}\\"x') });
  const json = fc.oneof(fc.jsonValue({ maxDepth: 6 }), fc.array(text), fc.dictionary(text, text));
  fc.assert(fc.property(json, fc.nat(6), (value, levels) => {
    const encoded = JSON.stringify(value);
    assert.equal(nestsDeeper(encoded, levels), depth(value) > levels, encoded);
  }));
  assert.equal(nestsDeeper("[".repeat(40_000), 32), true);
});
