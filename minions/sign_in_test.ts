import assert from "node:assert/strict";
import { sessionMs, SignIn } from "./sign_in.ts";

const here = "192.0.2.1";

Deno.test("SignIn grants each password its role, until the session ends or signs out", () => {
  let now = 0;
  const signIn = new SignIn({ act: "strong", look: "weak", now: () => now });
  const [act, look] = [signIn.try("strong", here), signIn.try("weak", here)];
  assert.ok(act.outcome === "signed in" && look.outcome === "signed in");
  assert.deepEqual([signIn.roleOf(act.session), signIn.roleOf(look.session)], ["act", "look"]);
  assert.notEqual(act.session, look.session);
  signIn.signOut(look.session);
  assert.equal(signIn.roleOf(look.session), undefined);
  assert.equal(signIn.roleOf("guessed"), undefined);
  assert.equal(signIn.roleOf(undefined), undefined);
  now = sessionMs;
  assert.equal(signIn.roleOf(act.session), undefined);
});

Deno.test("SignIn without a second password does not accept an empty one", () => {
  const signIn = new SignIn({ act: "strong", look: undefined });
  for (const password of ["", "undefined", "null"]) {
    assert.deepEqual(signIn.try(password, here), { outcome: "wrong" });
  }
});

Deno.test("SignIn checks five wrong passwords at once and then one password every ten seconds, even the right one", () => {
  let now = 0;
  const signIn = new SignIn({ act: "strong", look: undefined, now: () => now });
  for (let i = 0; i < 5; i++) assert.equal(signIn.try("guess", here).outcome, "wrong");
  now = 4000;
  assert.deepEqual(signIn.try("strong", here), { outcome: "wait", waitMs: 6000 });
  now = 10_000;
  assert.equal(signIn.try("strong", here).outcome, "signed in");
  assert.equal(signIn.try("guess", here).outcome, "wrong");
  assert.equal(signIn.try("strong", here).outcome, "wait");
});

Deno.test("SignIn accepts the right password while others guess, from any number of addresses", () => {
  let now = 0;
  const signIn = new SignIn({ act: "strong", look: undefined, now: () => now });
  // An attacker that guesses ten times a second for an hour: about 365 guesses are checked.
  let compared = 0;
  for (; now < 3_600_000; now += 100) {
    if (signIn.try(`guess${now}`, "203.0.113.1").outcome === "wrong") compared++;
  }
  assert.ok(compared >= 360 && compared <= 370, `${compared}`);
  signIn.try("one more", "203.0.113.1");
  assert.equal(signIn.try("strong", "203.0.113.1").outcome, "wait");
  assert.equal(signIn.try("strong", here).outcome, "signed in");
  // Thousands of addresses together reach the common limit; an address with a successful sign-in does not.
  let address = 0;
  while (signIn.try("guess", `198.51.${address >> 8}.${address & 255}`).outcome === "wrong") {
    address++;
  }
  assert.ok(address >= 1000, `${address}`);
  assert.equal(signIn.try("strong", "192.0.2.99").outcome, "wait");
  assert.equal(signIn.try("strong", here).outcome, "signed in");
});

Deno.test("SignIn does not count right passwords", () => {
  const signIn = new SignIn({ act: "strong", look: undefined, now: () => 0 });
  for (let i = 0; i < 20; i++) assert.equal(signIn.try("strong", here).outcome, "signed in");
});

Deno.test("SignIn without any password lets everybody act", () => {
  const signIn = new SignIn({ act: undefined, look: undefined });
  assert.equal(signIn.open, true);
  assert.equal(signIn.roleOf(undefined), "act");
});
