/** A small RPC program for the fault tests: `deno run --allow-net=127.0.0.1 faults_fixture.ts <port>`. */
import { z } from "zod";
import { serveHttp } from "../serve.ts";
import { defineContract } from "./contract.ts";
import { rpcHandler, serveContract } from "./server.ts";

const id = z.strictObject({ id: z.string() });

export const ledgerContract = defineContract("ledger", {
  read: { input: id, output: id, idempotent: true },
  /** Says on standard output that it was executed, so that a killed process has told. */
  add: { input: id, output: id, idempotent: false },
});

if (import.meta.main) {
  const encoder = new TextEncoder();
  const rpc = rpcHandler([serveContract(ledgerContract, {
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
  const server = serveHttp({ host: "127.0.0.1", port: Number(Deno.args[0]), handler: rpc });
  Deno.stdout.writeSync(encoder.encode(`listening ${server.port}\n`));
  await stop;
  rpc.drain();
  await server[Symbol.asyncDispose]();
  Deno.exit(0);
}
