import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { oldPolling, type PayloadParser } from "./polling_old.ts";
import { PollingClient } from "./testing.ts";
import { authenticated, singleSpear } from "../spear_testing.ts";

/** As the library reads a text payload; what socket.io-client 1 and 2 write differs within the packets. */
const library: PayloadParser = {
  encodePayload: () => assert.fail("the library writes no payload of protocol 3"),
  decodePayload: (data, callback) => {
    const texts = String(data).split("|");
    texts.forEach((text, i) => callback({ type: "message", data: text }, i, texts.length));
  },
};

function read(parser: PayloadParser, ...texts: string[]): unknown[] {
  const packets: unknown[] = [];
  parser.decodePayload(texts.join("|"), ({ data }) => void packets.push(data));
  return packets;
}

/** As socket.io-client 1 writes a text. */
function twice(text: string): string {
  return Buffer.from(text).toString("latin1");
}

const word = fc.string({ unit: "grapheme" }).map((text) => text.replaceAll("|", ""));

Deno.test("oldPolling reads what socket.io-client 1 and 2 write, whatever letters are in it", () => {
  fc.assert(fc.property(fc.array(word, { minLength: 1 }), (texts) => {
    const first = oldPolling(library);
    assert.deepEqual(read(first, ...texts.map(twice)), texts);
    const second = oldPolling(library);
    assert.deepEqual(read(second, "是", ...texts), ["是", ...texts]);
  }));
  assert.deepEqual(read(oldPolling(library), "é", twice("é")), ["é", twice("é")]);
  // Half of a pair, as the first clients wrote it.
  assert.deepEqual(read(oldPolling(library), `${twice("é")}\xed\xa0\xbdx`), ["é\ud83dx"]);
});

Deno.test("oldPolling writes text as ASCII that every client reads alike, and the binary form in UTF-8", () => {
  fc.assert(fc.property(fc.array(word, { minLength: 1 }), (texts) => {
    const packets = texts.map((text) => ({ type: "message", data: JSON.stringify(text) }));
    const payloads: (string | Buffer)[] = [];
    for (const supportsBinary of [false, true]) {
      oldPolling(library).encodePayload(packets, supportsBinary, (data) => payloads.push(data));
    }
    const [text, binary] = payloads;
    assert.ok(typeof text === "string" && typeof binary === "object");
    // deno-lint-ignore no-control-regex
    assert.match(text, /^[\x00-\x7f]*$/);
    let at = 0;
    let i = 0;
    for (const expected of texts) {
      const colon: number = text.indexOf(":", at);
      const end: number = colon + 1 + Number(text.slice(at, colon));
      assert.equal(text[colon + 1], "4");
      assert.equal(JSON.parse(text.slice(colon + 2, end)), expected);
      at = end;
      assert.equal(binary[i], 0);
      const begin: number = binary.indexOf(255, i) + 1;
      const length: number = Number(binary.subarray(i + 1, begin - 1).join(""));
      i = begin + length;
      assert.equal(JSON.parse(binary.toString("utf8", begin + 1, i)), expected);
    }
    assert.deepEqual([at, i], [text.length, binary.length]);
  }));
});

for (const query of ["", "&b64=1", "&j=0"]) {
  Deno.test(`polling of Engine.IO 3 gets the binary form where it does not ask for another one (${query})`, async () => {
    await using spear = await singleSpear();
    const url = `${spear.address}/socket.io/?EIO=3&transport=polling${query}`;
    const response = await fetch(url);
    const bytes = new Uint8Array(await response.arrayBuffer());
    const type = response.headers.get("content-type");
    if (query === "") {
      assert.equal(type, "application/octet-stream");
      assert.equal(bytes[0], 0);
      return;
    }
    assert.match(type ?? "", /^text\//);
    assert.match(new TextDecoder().decode(bytes), /sid/);
  });
}

Deno.test("a text from socket.io-client 1 over polling reaches others as it was written, and theirs reach it", async () => {
  await using spear = await singleSpear();
  await using modern = await authenticated(spear.address, 2);
  const client = await PollingClient.open(spear.address, 3);
  await client.post('420["auth",{"id":1}]');
  await client.pollUntil("430");
  const content = "你好 👩‍👩‍👧 é";
  await client.post(twice(`42["msg",{"type":0,"target":{"id":2},"content":"${content}"}]`));
  assert.equal((await modern.next("msg")).content, content);
  await modern.request("msg", { type: 0, target: { id: 1 }, content });
  const packets = await client.pollUntil('420["msg"');
  assert.equal(JSON.parse(packets.at(-1)?.slice(3) ?? "")[1].content, content);
});
