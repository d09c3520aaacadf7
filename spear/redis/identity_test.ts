import assert from "node:assert/strict";
import { ConfigError } from "@gru/shared/config";
import { logger } from "@gru/shared/log";
import { freePort, serverTest } from "@gru/shared/testing/harness";
import { startRedis } from "@gru/shared/testing/redis";
import { ClusterIdentity } from "./identity.ts";

/** The sessions that a cluster's registry shows. */
function clusterOver(url: string) {
  const registry = new Set<string>();
  let started = 0;
  return {
    registry,
    open: () => {
      const session = crypto.randomUUID();
      registry.add(session);
      return new ClusterIdentity({
        ...{ url, session, node: `spear${++started}`, known: () => registry },
        log: logger("test"),
      });
    },
  };
}

serverTest({
  name:
    "the nodes of a cluster find one identity, which stays; a node of another cluster does not start in the same database",
  needs: "redis",
  fn: async () => {
    await using server = await startRedis();
    const ours = clusterOver(server.url);
    let id;
    {
      await using first = ours.open();
      await using second = ours.open();
      id = await first.atStart();
      assert.match(id ?? "", /^[0-9a-f]{8}$/);
      assert.equal(await second.atStart(), id);

      await using stranger = clusterOver(server.url).open();
      await assert.rejects(stranger.atStart(), (error: Error) => {
        assert.ok(error instanceof ConfigError);
        assert.match(error.message, /belongs to another cluster, \w{8}: its spear1 is there now/);
        assert.match(error.message, /redis:\/\/host:6379\/1/);
        return true;
      });
      await using apart = clusterOver(`${server.url}/1`).open();
      const other = await apart.atStart();
      assert.notEqual(other, undefined);
      assert.notEqual(other, id);
    }
    // All have gone: whoever comes now goes on with the state that is there.
    await using successor = clusterOver(server.url).open();
    assert.equal(await successor.atStart(), id);
  },
});

serverTest({
  name: "a start does not wait long for the identity in a Redis that is out of reach",
  needs: "redis",
  fn: async () => {
    await using identity = clusterOver(`redis://127.0.0.1:${freePort()}`).open();
    assert.equal(await identity.atStart(), undefined);
  },
});
