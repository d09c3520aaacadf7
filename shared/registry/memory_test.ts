import { registryConformance } from "./conformance.ts";
import { MemoryRegistry } from "./memory.ts";

Deno.test("MemoryRegistry behaves as every registry must", async (t) => {
  await registryConformance(t, async () => {
    const registry = new MemoryRegistry();
    return {
      open: async () => registry,
      [Symbol.asyncDispose]: () => registry[Symbol.asyncDispose](),
    };
  }, { independent: false });
});
