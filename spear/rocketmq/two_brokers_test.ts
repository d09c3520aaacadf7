import assert from "node:assert/strict";
import { makeCertificates } from "@gru/shared/testing/certificates";
import { waitFor } from "@gru/shared/testing/harness";
import { startRedis } from "@gru/shared/testing/redis";
import { type RocketmqServer, rocketmqTest, startRocketmq } from "@gru/shared/testing/rocketmq";
import { range, TestNode } from "../broker/testing.ts";
import { assertFlawless, Load, report } from "../broker/testing_load.ts";
import type { RocketmqBroker } from "./broker.ts";
import { brokersOver, topic } from "./testing.ts";

/** How many messages of the topic a broker has stored; 0 while the name server does not know it. */
async function storedBy(rocketmq: RocketmqServer, broker: string): Promise<number> {
  const rows = (await rocketmq.admin("topicStatus", "-t", topic)).split("\n")
    .map((line) => line.split(/\s+/)).filter(([name]) => name === broker);
  return rows.reduce((sum, [, , , end]) => sum + Number(end), 0);
}

rocketmqTest({
  name:
    "with credentials, TLS and two brokers, of which one is killed and comes back, nothing is lost, doubled or inverted",
  needs: ["redis"],
  fn: async () => {
    await using stack = new AsyncDisposableStack();
    const certificates = await makeCertificates(stack);
    const redis = stack.use(await startRedis());
    const rocketmq = stack.use(
      await startRocketmq({
        topics: [topic],
        brokers: 2,
        admin: { accessKey: "rocketmq", secretKey: "secret12345678" },
        proxy: {
          tlsTestModeEnable: false,
          tlsCertPath: certificates.file("node.pem"),
          tlsKeyPath: certificates.file("node.key"),
        },
      }),
    );
    const credentials = { accessKey: "gru", secretKey: "a-password-of-gru" };
    await rocketmq.allow(credentials, topic);
    const cluster = stack.use(brokersOver({
      ...{ redisPort: redis.port, rocketmqPort: rocketmq.port },
      access: { ...credentials, tls: true, ca: certificates.node.ca },
    }));
    const nodes: TestNode[] = [];
    for (const _ of range(3)) nodes.push(stack.use(await TestNode.open(cluster.open)));
    const carriers = () => nodes.map(({ broker }) => (broker as RocketmqBroker).carrier);
    const direct = () => carriers().reduce((sum, carrier) => sum + carrier.sent.direct, 0);

    using load = await Load.start(nodes, { targets: 12, perTick: 4 });
    await load.goesOn(600);
    const [, mortal] = rocketmq.brokers;
    await mortal?.kill();
    await load.goesOn(600);
    const withOne = direct();
    await waitFor(() => direct() > withOne + 300, {
      what: "messages through the broker that is left",
      timeoutMs: 60_000,
    });
    await mortal?.start();
    const stored = await storedBy(rocketmq, "broker-b");
    await waitFor(async () => await storedBy(rocketmq, "broker-b") > stored, {
      what: "messages through the broker that is back",
      timeoutMs: 60_000,
    });
    await load.goesOn(600);
    const outcome = await load.finish();
    report("one broker of two killed and back, credentials and TLS", outcome);
    assertFlawless(outcome);
    assert.deepEqual([outcome.refused, outcome.inDoubt], [0, 0]);
  },
});
