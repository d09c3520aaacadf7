/** What `modules.ts` and `link.ts` take for granted of Node's module loader and of RocketMQ's client. */
import assert from "node:assert/strict";
import module from "node:module";
import { slowTest } from "@gru/shared/testing/harness";

Deno.test("Node: `module._load` loads a module for `require`", () => {
  const { _load } = module as unknown as { _load(request: string): unknown };
  assert.equal(typeof _load, "function");
  assert.equal(typeof (_load.call(module, "node:zlib") as { crc32: unknown }).crc32, "function");
});

// Slow for its loading: it must be the first to load the client.
slowTest(
  "rocketmq-client-nodejs: it loads `@node-rs/crc32`, and `node:fs` in `UserAgent.js`, by `module._load`",
  async () => {
    const loader = module as unknown as {
      _load(request: string, parent?: { readonly filename?: string }, ...rest: unknown[]): unknown;
    };
    await import("./modules.ts");
    const { _load } = loader;
    const requests: string[] = [];
    loader._load = function (request, parent, ...rest) {
      requests.push(`${request} in ${parent?.filename?.split("/dist/client/").at(-1)}`);
      return _load.call(this, request, parent, ...rest);
    };
    try {
      await import("rocketmq-client-nodejs");
    } finally {
      loader._load = _load;
    }
    const wanted = ["@node-rs/crc32 in ", "node:fs in UserAgent.js"];
    assert.deepEqual(wanted.filter((start) => !requests.some((one) => one.startsWith(start))), []);
  },
);

slowTest({
  name:
    "rocketmq-client-nodejs: a client's `endpoints` has a scheme, a list of addresses and a `facade`",
  // The client has an interval from the start, and only one that was started can be shut down.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async () => {
    await import("./modules.ts");
    const { Producer } = await import("rocketmq-client-nodejs");
    const producer = new Producer({
      endpoints: "127.0.0.1:1",
      namespace: "",
      logger: { debug() {}, info() {}, warn() {}, error() {}, close() {} } as never,
    });
    const { endpoints } = producer as unknown as {
      readonly endpoints: {
        readonly scheme: number;
        readonly addressesList: readonly unknown[];
        readonly facade: string;
      };
    };
    assert.equal(typeof endpoints.scheme, "number");
    assert.deepEqual(endpoints.addressesList, [{ host: "127.0.0.1", port: 1 }]);
    assert.equal(endpoints.facade, "127.0.0.1:1");
  },
});
