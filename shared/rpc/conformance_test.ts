/** What callers may rely on with every engine: over HTTP/2, over one connection that stays open, or directly to the handlers. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { z } from "zod";
import type { Logger } from "../log.ts";
import { MemoryRegistry } from "../registry/memory.ts";
import { serveHttp } from "../http/serve.ts";
import { waitFor } from "../testing/harness.ts";
import type { RpcClient } from "./bind.ts";
import { connectRpc } from "./client.ts";
import { type Call, defineContract, type Handlers, RpcError } from "./contract.ts";
import { localClient } from "./local.ts";
import { rpcHandler, serveContract } from "./server.ts";

const contract = defineContract("trial", {
  echo: { input: z.unknown(), output: z.unknown(), idempotent: true },
  convert: {
    input: z.strictObject({ text: z.string().max(5), times: z.number().int().default(2) }),
    output: z.object({ length: z.string().transform(Number) }),
    idempotent: true,
  },
  hang: { input: z.strictObject({}), output: z.strictObject({}), idempotent: true },
  take: { input: z.strictObject({}), output: z.strictObject({}), idempotent: false },
  ready: { input: z.strictObject({}), output: z.strictObject({}), idempotent: true },
});
type Trial = typeof contract;
const often = defineContract(
  "trial",
  Object.fromEntries(
    Object.entries(contract.methods).map(([name, method]) => [name, { ...method, often: true }]),
  ) as unknown as Trial["methods"],
);

interface Options {
  readonly timeoutMs?: number;
  readonly maxConcurrent?: number;
  readonly log?: Logger;
}

type Open = (
  stack: AsyncDisposableStack,
  handlers: Partial<Handlers<Trial>>,
  options?: Options,
) => Promise<RpcClient<Trial>>;

const fallback: Handlers<Trial> = {
  echo: (input) => input,
  convert: ({ text, times }) => ({ length: String(text.length * times) }),
  hang: () => new Promise(() => {}),
  take: () => ({}),
  ready: () => ({}),
};

const openLocal: Open = async (stack, handlers, options) =>
  stack.use(localClient(contract, { ...fallback, ...handlers }, options));

const openRemote: Open = async (stack, handlers, { timeoutMs = 5000, ...options } = {}) => {
  const rpc = rpcHandler([serveContract(contract, { ...fallback, ...handlers })], options);
  const server = stack.use(
    await serveHttp({ host: "127.0.0.1", port: 0, handler: rpc, bodyBytes: Infinity, drainMs: 0 }),
  );
  const registry = stack.use(new MemoryRegistry());
  await registry.register({
    service: "trial",
    name: "trial1",
    addresses: { rpc: server.origin },
    startedAt: 1,
    meta: {},
  });
  return stack.use(await connectRpc(contract, { registry, timeoutMs }));
};

/** Calls over one connection that stays open. */
const openLine: Open = async (stack, handlers, { timeoutMs = 5000, ...options } = {}) => {
  const clusterKey = "the key of the trial";
  let [address, requests] = ["", 0];
  const rpc = rpcHandler(
    [serveContract(often, { ...fallback, ...handlers })],
    { ...options, clusterKey, address: () => address },
  );
  const handler = (request: Request) => {
    if (request.method === "POST") requests++;
    return rpc(request);
  };
  const server = stack.use(
    await serveHttp({
      ...{ host: "127.0.0.1", port: 0, handler, upgrade: rpc.upgrade },
      ...{ bodyBytes: Infinity, drainMs: 0 },
    }),
  );
  address = server.origin;
  const registry = stack.use(new MemoryRegistry());
  await registry.register({
    ...{ service: "trial", name: "trial1", addresses: { rpc: address }, startedAt: 1, meta: {} },
  });
  const client = stack.use(await connectRpc(often, { registry, timeoutMs, clusterKey }));
  await waitFor(async () => {
    const before = requests;
    await client.any.ready({}, { timeoutMs: 5000 });
    return requests === before;
  });
  return client;
};

const engines = { remote: openRemote, line: openLine, local: openLocal };
for (const [engine, open] of Object.entries(engines)) {
  const conforms = (name: string, fn: (stack: AsyncDisposableStack) => Promise<void>) =>
    Deno.test(`${engine}: ${name}`, async () => {
      await using stack = new AsyncDisposableStack();
      await fn(stack);
    });

  conforms(
    "a call carries its input to the handler and its output back, through the schemas",
    async (stack) => {
      const client = await open(stack, {});
      assert.deepEqual(await client.any.convert({ text: "abc" }), { length: 6 });
      assert.deepEqual(await client.at("trial1").convert({ text: "abc", times: 3 }), { length: 9 });
    },
  );

  conforms("every value that JSON can express arrives unchanged", async (stack) => {
    const client = await open(stack, {});
    await fc.assert(
      fc.asyncProperty(fc.jsonValue(), async (value) => {
        const expected = JSON.parse(JSON.stringify(value));
        assert.deepEqual(await client.any.echo(value), expected);
      }),
      { numRuns: 200 },
    );
  });

  conforms("a handler that changes its input does not change the caller's", async (stack) => {
    const client = await open(stack, {
      echo: (input) => {
        (input as number[]).push(4);
        return input;
      },
    });
    const input = [1, 2, 3];
    assert.deepEqual(await client.any.echo(input), [1, 2, 3, 4]);
    assert.deepEqual(input, [1, 2, 3]);
  });

  conforms("many calls at once each get their own answer", async (stack) => {
    const client = await open(stack, {});
    const inputs = Array.from({ length: 1000 }, (_, i) => i);
    assert.deepEqual(await Promise.all(inputs.map((i) => client.any.echo(i))), inputs);
  });

  conforms("invalid input is rejected with every field and its value", async (stack) => {
    const client = await open(stack, {});
    const input = { text: "too long", times: "x", more: 1 };
    await assert.rejects(
      client.any.convert(input as never),
      (error) => {
        assert(error instanceof RpcError);
        assert.equal(error.code, "invalid_argument");
        assert.equal(error.retryable, false);
        assert.match(error.message, /^trial\.convert: text: .*"too long"; times: .*"x"; more: /);
        return true;
      },
    );
  });

  conforms("input that JSON cannot express is rejected", async (stack) => {
    const client = await open(stack, {});
    await assert.rejects(client.any.echo(1n), { name: "RpcError", code: "invalid_argument" });
  });

  conforms("an RpcError thrown by a handler arrives unchanged", async (stack) => {
    const client = await open(stack, {
      take: () => {
        throw new RpcError("conflict", "taken by another", { retryable: false });
      },
    });
    await assert.rejects(client.any.take({}), {
      name: "RpcError",
      code: "conflict",
      message: "taken by another",
      retryable: false,
    });
  });

  conforms("any other error in a handler is logged and hidden from the caller", async (stack) => {
    const { log, logged } = recordingLog();
    const client = await open(stack, {
      take: () => {
        throw new Error("the password is 1234");
      },
      convert: () => ({ length: 5 as never }),
      echo: () => 1n,
    }, { log });
    const calls = [
      () => client.any.take({}),
      () => client.any.convert({ text: "" }),
      () => client.any.echo(1),
    ];
    for (const call of calls) {
      await assert.rejects(call, (error: RpcError) => {
        assert.equal(error.code, "internal");
        assert.match(error.message, /^trial\.(take|convert|echo) failed$/);
        return true;
      });
    }
    assert.equal(logged.length, calls.length);
    assert.match(String(logged[0]), /1234/);
    assert.match(String(logged[1]), /output is invalid: length: .*is 5/);
    assert.match(String(logged[2]), /BigInt/);
  });

  conforms("a call ends at its deadline, and its handler's signal is aborted", async (stack) => {
    let seen: Call | undefined;
    const client = await open(stack, {
      hang: (_, call) => {
        seen = call;
        call.signal.throwIfAborted();
        return new Promise(() => {});
      },
    });
    await assert.rejects(client.any.hang({}, { timeoutMs: 50 }), { code: "deadline_exceeded" });
    await waitFor(() => seen?.signal.aborted === true, { what: "the handler's signal" });
  });

  conforms(
    "the outcome of a call that must not be repeated is unknown at its deadline",
    async (stack) => {
      const client = await open(stack, { take: () => new Promise(() => {}) });
      await assert.rejects(client.any.take({}, { timeoutMs: 50 }), {
        code: "unknown",
        retryable: false,
      });
    },
  );

  conforms("a call never outlives the deadline of its parent call", async (stack) => {
    let remainingMs = Infinity;
    const client = await open(stack, {
      take: (_, call) => {
        remainingMs = call.deadline - performance.now();
        return {};
      },
    });
    const parent = {
      deadline: performance.now() + 1000,
      signal: new AbortController().signal,
    };
    await client.any.take({}, { timeoutMs: 60_000, parent });
    assert(remainingMs <= 1000, `${remainingMs} ms were left`);
  });

  conforms("a call without any time left is not sent", async (stack) => {
    let taken = 0;
    const client = await open(stack, {
      take: () => {
        taken++;
        return {};
      },
    });
    const parent = { deadline: performance.now() - 1, signal: new AbortController().signal };
    await assert.rejects(client.any.take({}, { parent }), { code: "deadline_exceeded" });
    assert.equal(taken, 0);
  });

  conforms("a call ends when its caller gives up", async (stack) => {
    const began = Promise.withResolvers<void>();
    const over = Promise.withResolvers<Record<string, never>>();
    const client = await open(stack, {
      hang: () => {
        began.resolve();
        return over.promise;
      },
    });
    const caller = new AbortController();
    const parent = { deadline: Infinity, signal: caller.signal };
    const calls = [
      client.any.hang({}, { signal: caller.signal }),
      client.any.hang({}, { parent }),
      client.any.hang({}, { parent, signal: new AbortController().signal }),
    ];
    const ends = calls.map((call) => assert.rejects(call, { code: "cancelled" }));
    await began.promise;
    caller.abort();
    await Promise.all(ends);
    await assert.rejects(client.any.take({}, { signal: caller.signal }), { code: "cancelled" });
    over.resolve({});
  });

  conforms("calls over the limit are rejected at once as overloaded", async (stack) => {
    const hold = Promise.withResolvers<Record<string, never>>();
    let held = 0;
    const client = await open(stack, {
      hang: () => {
        held++;
        return hold.promise;
      },
    }, { maxConcurrent: 2 });
    const holders = [client.any.hang({}), client.any.hang({})];
    await waitFor(() => held === 2);
    await assert.rejects(client.any.take({}), { code: "overloaded", retryable: true });
    hold.resolve({});
    await Promise.all(holders);
    assert.deepEqual(await client.any.take({}), {});
  });

  conforms("a disposed client rejects calls", async (stack) => {
    const client = await open(stack, {});
    await client[Symbol.asyncDispose]();
    await client[Symbol.asyncDispose]();
    await assert.rejects(client.any.take({}), { code: "unavailable" });
  });
}

function recordingLog() {
  const logged: unknown[] = [];
  const log = {
    error: (_: string, { error }: { error: unknown }) => logged.push(error),
  } as unknown as Logger;
  return { log, logged };
}
