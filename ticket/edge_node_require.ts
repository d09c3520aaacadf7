/**
 * Must be imported first. npm:hashring is CommonJS and loads Node's `crypto` by `require`, which a module does not
 * have. `deno bundle` (2.9.3) adds one where it recognises its own code, but not if the minified name happens to
 * contain a `$`.
 */
import { createRequire } from "node:module";

Reflect.set(globalThis, "require", createRequire(import.meta.url));
