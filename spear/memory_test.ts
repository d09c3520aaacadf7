/** What an idle client costs: spear's README promises about 9 KB. */
import { slowTest, waitFor } from "@gru/shared/testing/harness";
import { RawClient } from "./load/raw_client.ts";
import { spawnSpear } from "./spear_testing.ts";

const clients = 4000;
/** Twice what is promised: this many clients are few for a heap that grows in steps. */
const mostBytes = 2 * 9000;

slowTest(
  `${clients} idle clients, authenticated and each in a group, use at most ${
    mostBytes / 1000
  } KB each`,
  async () => {
    await using stack = new AsyncDisposableStack();
    const spear = stack.use(await spawnSpear({}));
    const { hostname, port } = new URL(spear.address);
    let subscribed = 0;

    async function enter(userId: number): Promise<void> {
      const client = await RawClient.connect({
        host: hostname,
        port: Number(port),
        onPacket: (packet) => {
          if (packet.toString().startsWith("31")) subscribed++;
        },
      });
      stack.defer(async () => {
        client.close();
        await client.closed;
      });
      client.send(`20["auth",{"id":${userId}}]`);
      const groups = `[{"id":${1000 + Math.floor(userId / 20)}}]`;
      client.send(`21["subscribe",{"userId":${userId},"subscribeGroups":${groups}}]`);
    }

    // The code is compiled, and what all clients share is there.
    await Promise.all(Array.from({ length: 50 }, (_, i) => enter(i + 1)));
    await waitFor(() => subscribed === 50);
    const before = await spear.residentBytes();
    for (let userId = 51; userId <= clients + 50; userId += 50) {
      await Promise.all(Array.from({ length: 50 }, (_, i) => enter(userId + i)));
    }
    await waitFor(() => subscribed === clients + 50, { timeoutMs: 120_000, what: "all are in" });
    // Garbage of their coming goes when V8 has time.
    let bytes = Infinity;
    await waitFor(async () => {
      bytes = Math.min(bytes, (await spear.residentBytes() - before) / clients);
      return bytes <= mostBytes;
    }, { timeoutMs: 120_000, what: `at most ${mostBytes} bytes for a client` });
    // deno-lint-ignore no-console -- for people
    console.log(`  ${(bytes / 1000).toFixed(1)} KB for a client`);
  },
);
