/**
 * To be imported first: npm:hashring is CommonJS and gets Node's `crypto` by `require`, which a Workers module does not
 * have. The flag `nodejs_compat` gives it the module.
 */
import * as crypto from "node:crypto";

Reflect.set(globalThis, "require", (name: string) => {
  if (name === "crypto" || name === "node:crypto") return crypto;
  throw new Error(`No module ${name} here`);
});
