import { storeCases } from "./store_conformance.ts";
import { MemoryStore } from "./store_memory.ts";

for (const { name, run } of storeCases) {
  Deno.test(`MemoryStore: ${name}`, () =>
    run(async () => {
      const store = new MemoryStore();
      return { store, other: store, [Symbol.asyncDispose]: () => store[Symbol.asyncDispose]() };
    }));
}
