import { MemoryStore } from "../store_memory.ts";
import { tellingCases } from "./telling_conformance.ts";

for (const { name, run } of tellingCases) {
  Deno.test(`MemoryTelling: ${name}`, () =>
    run(async () => {
      const store = new MemoryStore();
      const { stream } = store.telling;
      return {
        stores: [store, store],
        events: async () => [...stream.events],
        lease: async (token) => void (stream.holder = token),
        [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
      };
    }));
}
