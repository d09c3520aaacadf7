import assert from "node:assert/strict";
import type { Logger } from "@gru/shared/log";
import { freePort, waitFor } from "@gru/shared/testing/harness";
import { makeCertificates } from "@gru/shared/testing/certificates";
import { type RocketmqServer, rocketmqTest, startRocketmq } from "@gru/shared/testing/rocketmq";
import { RocketmqLink, type RocketmqLinkOptions } from "./link.ts";

/** A link that writes down what it says. */
function linkTo(options: Partial<RocketmqLinkOptions> & { readonly proxies: readonly string[] }) {
  const said: string[] = [];
  const received: string[] = [];
  const take = (text: string, values?: unknown) => {
    const known = (typeof values === "function" ? values() : values) as Record<string, unknown>;
    said.push(text.replace(/\{(\w+)\}/g, (_, name) => String(known?.[name])));
  };
  const link = new RocketmqLink({
    ...{ topic: "gru", group: "gru-test-lane-0", tag: "m1" },
    holdsGroup: () => true,
    receive: (text) => received.push(text),
    opened: () => {},
    log: { debug() {}, info: take, warn: take, error: take } as unknown as Logger,
    ...options,
  });
  return { link, said, received };
}

async function seconds(what: string, condition: () => boolean, timeoutMs = 90_000) {
  const at = performance.now();
  await waitFor(condition, { what, timeoutMs });
  return `${what}: ${((performance.now() - at) / 1000).toFixed(1)} s`;
}

const admin = { accessKey: "rocketmq", secretKey: "secret12345678" };

type Scene = (
  server: RocketmqServer,
  tls: { readonly tls: true; readonly ca: string },
) => Promise<void>;

/** In this order, on one RocketMQ: what the first makes is there for the second. */
const scenes: Readonly<Record<string, Scene>> = {
  "RocketmqLink says each mistake of an operator in one line, and works without a restart once it is mended":
    async (server, tls) => {
      const { link, said } = linkTo({ proxies: [server.address], ...tls, ...admin });
      await using _ = link;
      const rows: string[] = [];
      const mistake = async (cause: RegExp, mend: () => Promise<unknown>) => {
        await waitFor(() => said.some((line) => cause.test(line)), {
          what: `${cause} among ${said.join("; ")}`,
          timeoutMs: 90_000,
        }).catch((error) => {
          throw new Error(`${error.message}; it said: ${said.join("\n")}`);
        });
        rows.push(said.find((line) => cause.test(line)) ?? "");
        await mend();
      };
      // Fails until the name server knows the broker.
      const tool = (...args: string[]) =>
        waitFor(async () => (await server.admin(...args)).includes("success"), {
          what: args.join(" "),
          timeoutMs: 180_000,
        });
      const topic = (type: string) =>
        tool("updateTopic", "-c", "DefaultCluster", "-t", "gru", "-a", `+message.type=${type}`);
      const makeGroup = (name: string) =>
        tool("updateSubGroup", "-c", "DefaultCluster", "-g", name);
      const permit = (permission: string) =>
        tool("updateTopicPerm", "-c", "DefaultCluster", "-t", "gru", "-p", permission);

      await mistake(/topic gru does not exist: mqadmin updateTopic/, () => topic("NORMAL"));
      await mistake(/topic gru is not of type FIFO: mqadmin/, () => topic("FIFO"));
      await mistake(
        /consumer group gru-test-lane-0 does not exist: mqadmin updateSubGroup .* -g gru-test-lane-0/,
        () => makeGroup("gru-test-lane-0"),
      );
      rows.push(await seconds("healed", () => link.usable));
      {
        const [topic, group] = ["company%chat", "company%chat-test-lane-0"];
        await server.createTopic(topic);
        await makeGroup(group);
        const inNamespace = linkTo({ proxies: [server.address], topic, group, ...tls, ...admin });
        await using other = inNamespace.link;
        await seconds("in a namespace", () => other.usable);
        await other.send("m1", "for the company");
        await waitFor(() => inNamespace.received.includes("for the company"));
        // By then the first ones have been acknowledged.
        for (let probe = 0; probe < 2; probe++) {
          const { roundTripMs } = other;
          await waitFor(() => other.roundTripMs !== roundTripMs);
        }
        assert.deepEqual(inNamespace.said.filter((line) => /acknowledg/.test(line)), []);
        rows.push(`in a namespace: ${inNamespace.said.join("; ")}`);
      }
      await permit("4");
      await mistake(/topic gru may not be written/, () => permit("6"));
      rows.push(await seconds("healed", () => link.usable));
      await server.kill();
      await mistake(/does not answer: check the key rocketmq/, () => server.start());
      rows.push(await seconds("healed", () => link.usable));
      // deno-lint-ignore no-console -- for people; nothing timed decides
      console.log([...rows, "all that it said:", ...said].join("\n"));
    },

  "RocketmqLink signs what it asks, works once its user is made and has its rights, and goes to the next proxy when one is gone":
    async (server, tls) => {
      const refused = linkTo({
        proxies: [server.address],
        ...tls,
        accessKey: "gru",
        secretKey: "a-password-of-gru",
      });
      {
        await using _ = refused.link;
        await waitFor(() => refused.said.some((line) => /refuses the credentials/.test(line)), {
          what: "a refusal",
          timeoutMs: 90_000,
        });
        // An operator makes the user, and gives it its rights.
        await server.allow({ accessKey: "gru", secretKey: "a-password-of-gru" }, "gru");
        await seconds("healed", () => refused.link.usable);
      }
      const gone = `127.0.0.1:${freePort()}`;
      const { link, said, received } = linkTo({
        proxies: [gone, server.address],
        ...tls,
        ...admin,
      });
      await using _ = link;
      await seconds("through the second proxy", () => link.usable);
      await link.send("m1", "signed");
      await waitFor(() => received.includes("signed"));
      // deno-lint-ignore no-console -- for people; nothing timed decides
      console.log([...refused.said, ...said].join("\n"));
    },
};

rocketmqTest({
  name: "operators' mistakes with RocketMQ, with credentials and TLS",
  // Timers of clients that were replaced while the server was dead outlast the link, as in `away_test.ts`.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async (t) => {
    await using stack = new AsyncDisposableStack();
    const certificates = await makeCertificates(stack);
    const server = stack.use(
      await startRocketmq({
        admin,
        broker: { autoCreateSubscriptionGroup: false },
        proxy: {
          // Its own default would let it notice a change of the topic after up to 20 s.
          topicRouteServiceCacheRefreshSeconds: 2,
          tlsTestModeEnable: false,
          tlsCertPath: certificates.file("node.pem"),
          tlsKeyPath: certificates.file("node.key"),
        },
      }),
    );
    const tls = { tls: true, ca: certificates.node.ca } as const;
    for (const [name, scene] of Object.entries(scenes)) {
      await t.step(name, () => scene(server, tls));
    }
  },
});
