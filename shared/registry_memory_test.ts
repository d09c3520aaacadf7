import { registryConformance } from "./registry_conformance.ts";
import { MemoryRegistry } from "./registry_memory.ts";

Deno.test("MemoryRegistry is a registry", async (t) => {
  await registryConformance(t, async () => {
    const registry = new MemoryRegistry();
    return {
      open: async () => registry,
      [Symbol.asyncDispose]: () => registry[Symbol.asyncDispose](),
    };
  }, { independent: false });
});
