import assert from "node:assert/strict";
import { sessionMs, SignIn } from "./sign_in.ts";

Deno.test("SignIn gives each password its role, until the session ends or signs out", () => {
  let now = 0;
  const signIn = new SignIn({ act: "strong", look: "weak", now: () => now });
  const [act, look] = [signIn.try("strong"), signIn.try("weak")];
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

Deno.test("SignIn without a second password takes no empty one for it", () => {
  const signIn = new SignIn({ act: "strong", look: undefined });
  for (const password of ["", "undefined", "null"]) {
    assert.deepEqual(signIn.try(password), { outcome: "wrong" });
  }
});

Deno.test("SignIn lets five be wrong and then one each ten seconds, also the right one", () => {
  let now = 0;
  const signIn = new SignIn({ act: "strong", look: undefined, now: () => now });
  for (let i = 0; i < 5; i++) assert.equal(signIn.try("guess").outcome, "wrong");
  now = 4000;
  assert.deepEqual(signIn.try("strong"), { outcome: "wait", waitMs: 6000 });
  now = 10_000;
  assert.equal(signIn.try("strong").outcome, "signed in");
  assert.equal(signIn.try("guess").outcome, "wrong");
  assert.equal(signIn.try("strong").outcome, "wait");
});

Deno.test("SignIn without any password lets everyone act", () => {
  const signIn = new SignIn({ act: undefined, look: undefined });
  assert.equal(signIn.open, true);
  assert.equal(signIn.roleOf(undefined), "act");
});
