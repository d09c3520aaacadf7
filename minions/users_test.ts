import assert from "node:assert/strict";
import { SignIn } from "./sign_in.ts";
import { newUser, readUsers } from "./users.ts";

Deno.test("a user of GRU_MINIONS_USERS signs in with name and password, beside the two passwords", async () => {
  const text = [
    await newUser("ann", "act", "a password"),
    await newUser("李雷", "look", "another one"),
  ].join(", ");
  assert.doesNotMatch(text, /password|another/);
  const signIn = new SignIn({ act: "strong", look: undefined, users: readUsers(text) });
  const user = async (name: string, password: string) => {
    const result = await signIn.tryUser(name, password, "192.0.2.1");
    return result.outcome === "signed in" ? signIn.userOf(result.session) : result.outcome;
  };
  assert.deepEqual(await user("ann", "a password"), { name: "ann", role: "act" });
  assert.deepEqual(await user("李雷", "another one"), { name: "李雷", role: "look" });
  assert.equal(await user("ann", "another one"), "wrong");
  assert.equal(await user("bob", "a password"), "wrong");
  const shared = signIn.try("strong", "192.0.2.1");
  assert(shared.outcome === "signed in");
  assert.deepEqual(signIn.userOf(shared.session), { name: "act", role: "act" });
});

Deno.test("a list of users with a fault is refused as a whole", async () => {
  const ann = await newUser("ann", "act", "a password");
  for (
    const text of ["", "ann", "ann:act:x:y", `${ann},`, ann.replace("act", "root"), `a b${ann}`]
  ) {
    assert.equal(readUsers(text), undefined, text);
  }
});
