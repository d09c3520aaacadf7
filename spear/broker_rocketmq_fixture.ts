/** A node that listens to a target and publishes without end, as a process that can be killed. Arguments: Redis, RocketMQ, target. */
import { logger } from "@gru/shared/log";
import { RocketmqBroker } from "./broker_rocketmq.ts";
import { defaults } from "./broker_testing.ts";
import { topic } from "./rocketmq_testing.ts";
import type { Target } from "./wire.ts";

const [url = "", rocketmq = "", name = ""] = Deno.args;
const target = name as Target;
const broker = new RocketmqBroker({
  ...{ url, rocketmq, topic, node: "mortal", log: logger("spear"), ...defaults },
}, { message() {}, disrupted() {} });
await broker.listen(target);
for (let n = 1; true; n++) {
  const id = `mortal${n}`;
  await broker.publish({ target, id, body: JSON.stringify({ id }) });
}
