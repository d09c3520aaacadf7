/** What is wrong with RocketMQ, in one line that names the cause first and says what to do. */
import definitions from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb.js";

export interface Place {
  readonly proxy: string;
  readonly topic: string;
  readonly group: string;
}

const { Code } = definitions;

/** How the link calls it that no request for messages waits for one. */
export const hastyAnswers = "requests for messages are answered at once, without messages";

/** @param error as the library throws it, with the first cause at the end of its chain */
export function causeOf(error: unknown, { proxy, topic, group }: Place): string {
  const first = firstCause(error);
  const text = first.message.replace(/^\[request-id=[^\]]*\] /, "").split("\n")[0] ?? "";
  const { code } = first as { readonly code?: unknown };
  const makeTopic =
    `mqadmin updateTopic -n <name server> -c <cluster> -t ${topic} -a +message.type=FIFO`;
  if (text === hastyAnswers) {
    return `${text}: set authorizationEnabled=false on the brokers and leave it to the proxies; RocketMQ 5.3.2 and 5.3.3 ` +
      "give a proxy in cluster mode no messages with it (apache/rocketmq issue 9862)";
  }
  if (text.startsWith("not acknowledged")) {
    return `what has arrived cannot be acknowledged, and comes again and again (${text})`;
  }
  if (/\bgroup\b.*(not exist|not found)/i.test(text) || code === Code.CONSUMER_GROUP_NOT_FOUND) {
    return `consumer group ${group} does not exist: mqadmin updateSubGroup -n <name server> -c <cluster> -g ${group}`;
  }
  if (/not of type FIFO|message type not match/i.test(text)) {
    return `topic ${topic} is not of type FIFO: ${makeTopic}`;
  }
  if (
    code === Code.TOPIC_NOT_FOUND || /No topic route|No route info|topic.*not exist/i.test(text)
  ) {
    return `topic ${topic} does not exist: ${makeTopic}`;
  }
  if (
    /no writable queue|permission.*(forbidden|not allow|is not)|sending message is forbidden/i.test(
      text,
    )
  ) {
    return `topic ${topic} may not be written or read: mqadmin updateTopicPerm -n <name server> -c <cluster> -t ${topic} -p 6 (${text})`;
  }
  if (
    code === Code.UNAUTHORIZED || code === Code.FORBIDDEN || code === 16 || code === 7 ||
    /authenticat|authoriz|access.?key|signature|no permission|not permitted|acl/i.test(text)
  ) {
    return `${proxy} refuses the credentials: check GRU_ROCKETMQ_ACCESS_KEY and GRU_ROCKETMQ_SECRET_KEY, and that their user may ` +
      `publish to and subscribe ${topic} and use ${group} (${text})`;
  }
  if (/certificate|self.signed|wrong version number|SSL|TLS|UnknownIssuer|handshake/i.test(text)) {
    return `no TLS with ${proxy}: check rocketmqTls and rocketmqCaFile (${text})`;
  }
  if (
    code === 14 || code === 4 ||
    /DEADLINE|UNAVAILABLE|ECONN|sent no settings|Remoting\w*Exception/.test(text)
  ) {
    return `${proxy} or a broker behind it does not answer: check the key rocketmq, and the address that the broker announces (${text})`;
  }
  return text;
}

function firstCause(error: unknown): Error {
  let at = error instanceof Error ? error : new Error(String(error));
  while (at.cause instanceof Error) at = at.cause;
  return at;
}
