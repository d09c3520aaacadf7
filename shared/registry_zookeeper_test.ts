import { logger } from "./log.ts";
import type { Registry } from "./registry.ts";
import { registryConformance } from "./registry_conformance.ts";
import { connectZookeeper, type ZookeeperOptions } from "./registry_zookeeper.ts";
import { serverTest } from "./testing.ts";
import { startEnsemble, startZookeeper } from "./testing_zookeeper.ts";

function connect(
  servers: readonly string[],
  root: string,
  changes: Partial<ZookeeperOptions> = {},
): Promise<Registry> {
  return connectZookeeper({ servers, root, sessionMs: 3000, log: logger("test"), ...changes });
}

async function conform(t: Deno.TestContext, servers: readonly string[]): Promise<void> {
  let clusters = 0;
  await registryConformance(t, async () => {
    const root = `/conformance/${++clusters}`;
    await using opened = new AsyncDisposableStack();
    const owned = opened.move();
    return {
      open: async () => owned.use(await connect(servers, root)),
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  }, { independent: true });
}

serverTest({
  name: "connectZookeeper gives a registry over one server",
  needs: "zookeeper",
  fn: async (t) => {
    await using server = await startZookeeper();
    await conform(t, [server.address]);
  },
});

serverTest({
  name: "connectZookeeper gives a registry over an ensemble",
  needs: "zookeeper",
  fn: async (t) => {
    await using ensemble = await startEnsemble();
    await conform(t, ensemble.addresses);
  },
});
