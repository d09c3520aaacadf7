/** `deno task hash ann act`: asks for a password, or reads it from its standard input, and prints the user for `GRU_MINIONS_USERS`. */
import { newUser, readUsers } from "./users.ts";

if (import.meta.main) {
  const [name = "", role = ""] = Deno.args;
  const password = Deno.stdin.isTerminal()
    ? prompt("Password:") ?? ""
    : (await new Response(Deno.stdin.readable).text()).trimEnd();
  const user = role === "look" || role === "act" ? await newUser(name, role, password) : "";
  if (password.length < 8 || readUsers(user) === undefined) {
    // deno-lint-ignore no-console
    console.error("deno task hash <name> look|act, and a password of 8 characters or more");
    Deno.exit(2);
  }
  // deno-lint-ignore no-console
  console.log(user);
}
