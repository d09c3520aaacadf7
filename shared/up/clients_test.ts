import assert from "node:assert/strict";
import { freePort, waitFor } from "@gru/shared/testing/harness";
import { authenticated, spawnSpear } from "../../spear/spear_testing.ts";
import type { TestClient } from "../../spear/test_client.ts";
import type { Browser } from "./console_driver.ts";
import { launchBrowser } from "./console_testing.ts";
import {
  chromium,
  type ClientKind,
  clientsTest,
  type Environment,
  jvm,
  node,
  python,
  type RunningClient,
  type Said,
  type Transport,
  transports,
} from "./clients_testing.ts";

const group = 10;
const short = "你好, 世界 👩‍👩‍👧‍👦 𝒳 é ß";
/** 50 KB of UTF-8, half of them beyond ASCII. */
const long = "汉字 👍🏽 plain text, ".repeat(1800);
const [observerId, firstUserId] = [1, 100];
/** Twenty-four clients, or four virtual machines, on few cores. */
const patience = { timeoutMs: 120_000 };

/** One client over one transport. */
interface Cell {
  readonly name: string;
  readonly kind: ClientKind;
  readonly via: Transport;
  readonly client: RunningClient;
  readonly has: (at: Said["at"]) => readonly string[];
}

async function start({ kinds }: Environment, address: string): Promise<Cell[]> {
  const cells = await Promise.all(kinds.map(async (kind, i) => {
    const id = firstUserId + transports.length * i;
    const users = { websocket: id, polling: id + 1, upgrade: id + 2 };
    const client = await kind.start({ address, group, users });
    return transports.map((via): Cell => ({
      ...{ name: `${kind.name} over ${via}`, kind, via, client },
      has: (at) =>
        client.said.flatMap((said) => said.via === via && said.at === at ? [said.text] : []),
    }));
  }));
  return cells.flat();
}

/** Waits until it holds for each. @throws Error that names those for which it never does */
async function all(cells: readonly Cell[], what: string, holds: (cell: Cell) => boolean) {
  const lacking = () => cells.filter((cell) => !holds(cell));
  await waitFor(() => lacking().length === 0, patience).catch(() => {
    const said = lacking().map(({ name, client, via }) => {
      const last = client.said.filter((said) => said.via === via).slice(-4)
        .map(({ at, text }) => `${at} ${text.slice(0, 60)}`);
      return `${name}: ${last.join(" | ")} ${client.noise.slice(-300)}`;
    });
    throw new Error(`not ${what}:\n${said.join("\n")}`);
  });
}

async function observe(address: string): Promise<TestClient> {
  const observer = await authenticated(address, observerId);
  const groups = { userId: observerId, subscribeGroups: [{ id: group }] };
  assert.equal((await observer.request("subscribe", groups)).success, true);
  return observer;
}

/** Each sends a text, and all get it as it was written, also from a client of today. */
async function talk(cells: readonly Cell[], observer: TestClient, round: string, text: string) {
  const sent = cells.map((cell) => `${round} ${cell.name} ${text}`);
  await Promise.all(cells.map(({ client, via }, i) => client.send(via, sent[i] ?? "")));
  const own = `${round} observer ${text}`;
  const message = { type: 1, target: { id: group }, content: own };
  assert.equal((await observer.request("msg", message)).success, true);
  const wanted = [...sent, own].sort();
  await all(cells, `given every text (${round})`, ({ has }) => {
    const got = has("msg").filter((content) => content.startsWith(round));
    return got.length >= wanted.length;
  });
  for (const { name, has } of cells) {
    const got = has("msg").filter((content) => content.startsWith(round)).sort();
    assert.deepEqual(got, wanted, name);
  }
  await waitFor(() => observer.pending("msg").length >= wanted.length);
  const got: string[] = [];
  while (observer.pending("msg").length > 0) got.push((await observer.next("msg")).content);
  assert.deepEqual(got.sort(), wanted);
}

async function play(environment: Environment): Promise<void> {
  const ports = { port: freePort(), monitorPort: freePort() };
  await using stack = new AsyncDisposableStack();
  let spear = stack.use(await spawnSpear(ports));
  let observer = await observe(spear.address);
  const cells = await start(environment, spear.address);
  for (const client of new Set(cells.map(({ client }) => client))) stack.use(client);
  const areIn = (times: number) =>
    all(cells, `in ${times} times`, ({ has }) => has("in").length >= times);
  const again = async () => {
    spear = stack.use(await spawnSpear(ports));
    observer = await observe(spear.address);
  };

  await areIn(1);
  await talk(cells, observer, "first", short);
  await talk(cells, observer, "large", long);
  // An orderly stop, and then one without a word.
  await spear.stop();
  await again();
  await areIn(2);
  await talk(cells, observer, "after a stop", short);
  await spear[Symbol.asyncDispose]();
  await again();
  await areIn(3);
  await talk(cells, observer, "after a kill", short);
  for (const { client, via } of cells) await client.send(via, "x".repeat(250_000));
  const old = cells.filter(({ kind }) => kind.protocol === 3);
  await all(
    old,
    "told why a message was too large",
    ({ has }) => has("error").some((text) => /refused: at most 100000/.test(text)),
  );
  await areIn(4);
  await talk(cells, observer, "at last", short);
  await observer[Symbol.asyncDispose]();
  const lines = environment.kinds.map(({ name }) =>
    `  ${environment.name.padEnd(9)} ${name.padEnd(24)} ${
      cells.filter((cell) => cell.kind.name === name).map(({ via, has }) =>
        `${via}: in ${has("in").length} times, ${has("msg").length} messages`
      ).join("; ")
    }`
  );
  // deno-lint-ignore no-console -- for people
  console.log(lines.join("\n"));
}

const title = (where: string) =>
  `every client ${where} talks beyond ASCII and in 50 KB over each transport, returns by itself, and learns what was too large`;

for (const environment of [node, jvm, python]) {
  clientsTest({
    name: title(`of ${environment.name}`),
    needs: environment.needs,
    fn: () => play(environment),
  });
}

clientsTest({
  name: title("in Chromium, on a page of another origin,"),
  needs: "chromium",
  fn: async () => {
    let browser: Browser | undefined;
    try {
      browser = await launchBrowser();
      const launched = browser;
      await play(chromium(() => launched));
    } finally {
      await browser?.close();
    }
  },
});
