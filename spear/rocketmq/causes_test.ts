import assert from "node:assert/strict";
import definitions from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb.js";
import { causeOf, hastyAnswers } from "./causes.ts";

const place = { proxy: "one:8081", topic: "gru", group: "gru-1a2b3c4d-lane-0" };
const { Code } = definitions;

/** As the library wraps it. */
function wrapped(message: string, code?: number): Error {
  const first = Object.assign(new Error(message), code === undefined ? {} : { code });
  const second = new Error("Failed to fetch topic routes after 3 attempts", { cause: first });
  return new Error("Startup the rocketmq client failed", { cause: second });
}

for (
  const [message, code, line] of [
    [
      "No topic route info in name server for the topic: gru",
      Code.TOPIC_NOT_FOUND,
      /^topic gru does not exist: mqadmin updateTopic .* -t gru -a \+message\.type=FIFO$/,
    ],
    [hastyAnswers, undefined, /^requests for messages .*authorizationEnabled=false on the brokers/],
    ["not acknowledged: ack failed", undefined, /^what has arrived cannot be acknowledged.*\(not/],
    ["topic gru is not of type FIFO", undefined, /^topic gru is not of type FIFO: mqadmin/],
    [
      "subscription group not exist",
      Code.CONSUMER_GROUP_NOT_FOUND,
      /^consumer group gru-1a2b3c4d-lane-0 does not exist: mqadmin updateSubGroup/,
    ],
    [
      "[request-id=undefined, response-code=50001] org.apache.rocketmq.proxy.common.ProxyException: no writable queue",
      50001,
      /^topic gru may not be written or read: .* -p 6/,
    ],
    [
      "[request-id=undefined, response-code=40100] check signature failed.",
      Code.UNAUTHORIZED,
      /^one:8081 refuses the credentials: check GRU_ROCKETMQ_ACCESS_KEY .*\(check signature failed\.\)$/,
    ],
    [
      "14 UNAVAILABLE: No connection established. Last error: Error: unable to verify the first certificate.",
      14,
      /^no TLS with one:8081: check rocketmqTls and rocketmqCaFile/,
    ],
    [
      "14 UNAVAILABLE: No connection established. Last error: Error: connect ECONNREFUSED 127.0.0.1:1",
      14,
      /^one:8081 or a broker behind it does not answer: check the key rocketmq/,
    ],
    [
      "connect to 127.0.0.1:9775 failed. RemotingConnectException. org.apache",
      50001,
      /^one:8081 or a broker behind it does not answer/,
    ],
  ] as const
) {
  Deno.test(`what is wrong with RocketMQ is said in one line: ${line.source.slice(1, 40)}`, () => {
    const said = causeOf(wrapped(message, code), place);
    assert.match(said, line);
    assert.ok(!said.includes("\n"), said);
  });
}
