/** The web console. */
import { z } from "zod";
import { ConfigError, secret } from "@gru/shared/config";
import { isLoopback, type NodeOverrides, nodeShape, openNode } from "@gru/shared/node";
import { minionsApp } from "./app.ts";
import { watchCluster } from "./cluster.ts";
import { SignIn } from "./sign_in.ts";

export const minionsSchema = z.strictObject({
  ...nodeShape,
  signIn: z.enum(["password", "open"])
    .describe("open: on this machine only, everyone may act unless there is a password"),
  password: secret("GRU_MINIONS_PASSWORD").describe("to look and to act"),
  lookPassword: secret("GRU_MINIONS_LOOK_PASSWORD").describe("to look only"),
  apiKey: secret("GRU_STAT_API_KEY").describe("the key of stat's HTTP API"),
}).refine(({ signIn, password }) => signIn === "open" || password !== undefined, {
  path: ["password"],
  error: "signIn password wants one",
});

export type MinionsConfig = z.output<typeof minionsSchema>;

export interface Minions extends AsyncDisposable {
  readonly address: string;
}

/** `idgen-node` lists all idgens, `idgen` only those that issue ids. */
const services = ["ticket", "spear", "idgen-node", "stat", "minions"];

/** @throws {ConfigError} {@linkcode Error} when the port is taken or the registry out of reach. */
export async function startMinions(
  config: MinionsConfig,
  overrides: NodeOverrides = {},
): Promise<Minions> {
  const { host, password, lookPassword, apiKey } = config;
  if (password === undefined && !isLoopback(host)) {
    throw new ConfigError(
      `minions: host: is ${host}, which other machines can reach; set the environment variable GRU_MINIONS_PASSWORD`,
    );
  }
  await using stack = new AsyncDisposableStack();
  const node = stack.use(await openNode("minions", config, overrides));
  const cluster = stack.use(await watchCluster(node.registry, services));
  const closing = new AbortController();
  const app = minionsApp({
    name: node.name,
    cluster,
    signIn: new SignIn({ act: password, look: lookPassword }),
    apiKey,
    closing: closing.signal,
  });
  const server = stack.use(
    await node.serve({ port: config.port, app: (request) => app.fetch(request) }),
  );
  stack.defer(() => closing.abort());
  stack.use(await node.announce({ http: server.address }));
  const running = stack.move();
  return { address: server.address, [Symbol.asyncDispose]: () => running.disposeAsync() };
}
