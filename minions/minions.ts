/** The web console. */
import { z } from "zod";
import { type NodeOverrides, nodeShape, openNode } from "@gru/shared/node";
import { minionsApp } from "./app.ts";
import { watchCluster } from "./cluster.ts";

export const minionsSchema = z.strictObject(nodeShape);

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
  await using stack = new AsyncDisposableStack();
  const node = stack.use(await openNode("minions", config, overrides));
  const cluster = stack.use(await watchCluster(node.registry, services));
  const app = minionsApp(() => cluster.view);
  const server = stack.use(
    await node.serve({ port: config.port, app: (request) => app.fetch(request) }),
  );
  stack.use(await node.announce({ http: server.address }));
  const running = stack.move();
  return { address: server.address, [Symbol.asyncDispose]: () => running.disposeAsync() };
}
