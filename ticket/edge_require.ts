/**
 * Must be imported first. npm:hashring is CommonJS and loads Node's `crypto` by `require`, which a Workers module does
 * not have. With the flag `nodejs_compat` the module itself is there.
 */
import * as crypto from "node:crypto";

Reflect.set(globalThis, "require", (name: string) => {
  if (name === "crypto" || name === "node:crypto") return crypto;
  throw new Error(`No module ${name} here`);
});
