import assert from "node:assert/strict";
import { SessionProof } from "./proof.ts";

Deno.test("SessionProof proves nothing before the quorum has answered", () => {
  const proof = new SessionProof();
  proof.handshake(100, 110);
  proof.contact(500, 510, 1000);
  assert.equal(proof.validUntil(1000), -Infinity);
});

Deno.test("SessionProof counts a handshake with the next write", () => {
  const proof = new SessionProof();
  proof.handshake(100, 110);
  proof.confirm(109);
  assert.equal(proof.validUntil(1000), -Infinity);
  proof.confirm(110);
  assert.equal(proof.validUntil(1000), 1050);
});

Deno.test("SessionProof counts a contact with a write sent 0.3 sessions after its answer", () => {
  const proof = new SessionProof();
  proof.handshake(0, 0);
  proof.confirm(0);
  proof.contact(200, 250, 1000);
  proof.contact(400, 450, 1000);
  proof.confirm(549);
  assert.equal(proof.validUntil(1000), 950);
  proof.confirm(551);
  assert.equal(proof.validUntil(1000), 1150);
  proof.confirm(751);
  assert.equal(proof.validUntil(1000), 1350);
});

Deno.test("SessionProof keeps only proven contacts over a lost connection", () => {
  const proof = new SessionProof();
  proof.handshake(0, 0);
  proof.confirm(0);
  proof.contact(200, 210, 1000);
  proof.disconnected();
  proof.confirm(900);
  assert.equal(proof.validUntil(1000), 950);
  proof.handshake(910, 920);
  proof.confirm(930);
  assert.equal(proof.validUntil(1000), 1860);
});

Deno.test("SessionProof advances under any number of contacts", () => {
  const proof = new SessionProof();
  proof.handshake(0, 0);
  for (let at = 0; at <= 10_000; at++) {
    proof.contact(at, at, 1000);
    proof.confirm(at);
  }
  const lag = 10_000 - (proof.validUntil(1000) - 950);
  assert.ok(lag >= 300 && lag < 350, `${lag}`);
});
