/**
 * A node that listens to a target and publishes without end, as a process that a test can kill. Arguments: Redis,
 * RocketMQ, target.
 */
import { logger } from "@gru/shared/log";
import { RocketmqBroker } from "./broker.ts";
import { defaults } from "../broker/testing.ts";
import { clusterId, topic } from "./testing.ts";
import type { Target } from "../wire.ts";

const [url = "", rocketmq = "", name = ""] = Deno.args;
const target = name as Target;
const broker = new RocketmqBroker({
  ...{
    url,
    proxies: [rocketmq],
    topic,
    cluster: Promise.resolve(clusterId),
    node: "mortal",
    log: logger("spear"),
    ...defaults,
  },
}, { message() {}, disrupted() {}, seen: () => [] });
await broker.listen(target);
for (let n = 1; true; n++) {
  const id = `mortal${n}`;
  await broker.publish({ target, id, body: JSON.stringify({ id }) });
}
