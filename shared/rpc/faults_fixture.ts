/** A small RPC program for the fault tests: `deno run --allow-net=127.0.0.1 faults_fixture.ts <port>`. */
import { z } from "zod";
import { serveHttp } from "../http/serve.ts";
import { defineContract } from "./contract.ts";
import { rpcHandler, serveContract } from "./server.ts";

const id = z.strictObject({ id: z.string() });

export const counterContract = defineContract("counter", {
  /** Over one connection that stays open. */
  read: { input: id, output: id, idempotent: true, often: true },
  /** Writes to standard output that it was executed, so that the test knows it even if the process is killed. */
  add: { input: id, output: id, idempotent: false },
});

if (import.meta.main) {
  const encoder = new TextEncoder();
  const rpc = rpcHandler([serveContract(counterContract, {
    read: async (input) => {
      await new Promise((resolve) => setTimeout(resolve, 2));
      return input;
    },
    add: async (input) => {
      Deno.stdout.writeSync(encoder.encode(`added ${input.id}\n`));
      await new Promise((resolve) => setTimeout(resolve, 2));
      return input;
    },
  })]);
  const stop = new Promise<void>((resolve) => Deno.addSignalListener("SIGTERM", resolve));
  const server = await serveHttp({
    host: "127.0.0.1",
    port: Number(Deno.args[0]),
    handler: rpc,
    upgrade: rpc.upgrade,
    bodyBytes: Infinity,
  });
  Deno.stdout.writeSync(encoder.encode(`listening ${server.port}\n`));
  await stop;
  rpc.drain();
  await server[Symbol.asyncDispose]();
  Deno.exit(0);
}
