/** Deliveries to a real receiver over HTTP. */
import assert from "node:assert/strict";
import { waitFor } from "@gru/shared/testing/harness";
import { postWebhook } from "@gru/shared/webhooks/post";
import { verifyWebhook } from "@gru/shared/webhooks/signature";
import type { EndpointConfig } from "./config.ts";
import { Delivery, type DeliveryOptions } from "./delivery.ts";
import { comparePositions, type EventKind } from "./event.ts";
import { beginning, type EndpointState } from "./outbox.ts";
import { MemoryOutbox } from "./outbox_memory.ts";
import { MemoryStream } from "./stream_memory.ts";

const secret = `whsec_${btoa("a secret of at least 24 bytes")}`;
const fresh: EndpointState = {
  ...{ position: beginning, state: "delivering", delivered: 0, failed: 0, waiting: 0, lagMs: 0 },
};

interface Sent {
  readonly id: string;
  readonly type: EventKind;
  readonly subject: string;
  readonly source: string;
  readonly data: unknown;
}

/** Verifies what it gets, and answers as it is told. */
class Receiver implements AsyncDisposable {
  readonly got: Sent[] = [];
  readonly batches: { readonly id: string; readonly events: readonly Sent[] }[] = [];
  answer: (events: readonly Sent[]) => Response = () => new Response();
  readonly #server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const body = await request.text();
      const { id } = verifyWebhook(secret, request.headers, body, { nowS: Date.now() / 1000 });
      assert.equal(request.headers.get("content-type"), "application/cloudevents-batch+json");
      const events: Sent[] = JSON.parse(body);
      this.batches.push({ id, events });
      const answer = this.answer(events);
      if (answer.ok) this.got.push(...events);
      return answer;
    },
  );

  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}/hooks`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

async function scene(more: Partial<EndpointConfig> = {}, state = fresh) {
  const receiver = new Receiver();
  const stream = new MemoryStream();
  const outbox = new MemoryOutbox(stream);
  const options: DeliveryOptions = {
    endpoint: { name: "crm", url: receiver.url, timeoutMs: 2000, allowPrivate: true, ...more },
    ...{ secret, source: "gru", outbox, post: postWebhook, state },
  };
  const delivery = new Delivery(options);
  const fill = () => delivery.fill(stream.last);
  return {
    ...{ receiver, stream, outbox, delivery, fill, options },
    [Symbol.asyncDispose]: async () => {
      await delivery[Symbol.asyncDispose]();
      await receiver[Symbol.asyncDispose]();
    },
  };
}

function online(stream: MemoryStream, userId: string): void {
  stream.add("user.online", `user:${userId}`, { userId });
}

Deno.test("Delivery sends signed CloudEvents, those that the endpoint wants, and remembers how far it is", async () => {
  await using test = await scene({ events: ["user.online"], match: ["1*", [40, 49]] });
  const { stream, receiver, delivery } = test;
  for (const userId of ["1", "17", "2", "45"]) online(stream, userId);
  stream.add("user.offline", "user:1", { userId: "1" });
  await test.fill();
  await waitFor(() => receiver.got.length === 3 && delivery.position === stream.last);
  const [first] = receiver.got.filter(({ subject }) => subject === "user:1");
  assert.deepEqual(first, {
    ...{ specversion: "1.0", id: stream.events[0]?.position, source: "gru", type: "user.online" },
    ...{ subject: "user:1", time: new Date(stream.events[0]?.timeMs ?? 0).toISOString() },
    ...{ datacontenttype: "application/json", data: { userId: "1" } },
  });
  const { delivered, waiting, state } = delivery.state(Date.now());
  assert.deepEqual({ delivered, waiting, state }, {
    delivered: 3,
    waiting: 0,
    state: "delivering",
  });
});

Deno.test("Delivery repeats what fails, with the same id, while other subjects go on, each in its order", async () => {
  await using test = await scene();
  const { stream, receiver, delivery } = test;
  const isStuck = (events: readonly Sent[]) => events.some(({ subject }) => subject === "user:1");
  let failures = 0;
  receiver.answer = (events) =>
    isStuck(events) && failures++ < 3 ? new Response(null, { status: 500 }) : new Response();
  for (let n = 0; n < 20; n++) {
    for (const userId of ["1", "2", "3", "4", "5", "6", "7", "8", "9"]) online(stream, userId);
  }
  await test.fill();
  await waitFor(() => receiver.got.length === 180 && delivery.position === stream.last);
  const stuck = receiver.batches.filter(({ events }) => isStuck(events));
  assert.equal(new Set(stuck.slice(0, 4).map(({ id }) => id)).size, 1);
  const firstOfStuck = receiver.got.findIndex(({ subject }) => subject === "user:1");
  assert.ok(firstOfStuck > 50, `${firstOfStuck} events of others came before the stuck one`);
  for (const subject of new Set(receiver.got.map(({ subject }) => subject))) {
    const ids = receiver.got.filter((one) => one.subject === subject).map(({ id }) => id);
    assert.deepEqual(ids, [...ids].sort(comparePositions));
    assert.equal(new Set(ids).size, 20);
  }
  assert.match(delivery.state(Date.now()).lastError?.message ?? "", /status 500/);
});

Deno.test("Delivery sends no more at once than a receiver takes, and what is given up holds up nothing behind it", async () => {
  await using test = await scene();
  const { stream, receiver, delivery } = test;
  receiver.answer = (events) =>
    new Response(null, { status: JSON.stringify(events).length > 300_000 ? 413 : 200 });
  const say = (id: string, characters: number) =>
    stream.add("message.accepted", "group:10", {
      ...{ id, groupId: "10", seq: 1, epoch: "e", content: "x".repeat(characters) },
    });
  for (let n = 0; n < 20; n++) say(`${n}`, 90_000);
  await test.fill();
  await waitFor(() => receiver.got.length === 20);
  // No receiver takes this one.
  say("large", 1_000_000);
  const position = stream.last;
  say("behind", 10);
  await test.fill();
  await waitFor(() => receiver.batches.length >= 12);
  assert.equal(receiver.got.length, 20);
  delivery.giveUp(position);
  await waitFor(() => receiver.got.length === 21 && delivery.position === stream.last);
  assert.deepEqual((receiver.got.at(-1)?.data as { id: string }).id, "behind");
});

Deno.test("Delivery repeats a batch as it was, though more has come for the same subject", async () => {
  await using test = await scene();
  const { stream, receiver } = test;
  let isRight = false;
  receiver.answer = () => isRight ? new Response() : new Response(null, { status: 500 });
  online(stream, "1");
  await test.fill();
  await waitFor(() => receiver.batches.length === 1);
  online(stream, "1");
  await test.fill();
  isRight = true;
  await waitFor(() => receiver.got.length === 2);
  const [first, second, third] = receiver.batches;
  assert.deepEqual(first, second);
  assert.equal(third?.events.length, 1);
});

Deno.test("Delivery keeps a bounded number of events while the receiver is away, and loses none", async () => {
  await using test = await scene();
  const { stream, receiver, delivery } = test;
  let isAway = true;
  receiver.answer = () => isAway ? new Response(null, { status: 503 }) : new Response();
  for (let n = 0; n < 5000; n++) online(stream, `${n}`);
  await test.fill();
  await waitFor(() => delivery.state(Date.now()).state === "resting");
  assert.equal(delivery.state(Date.now()).waiting, 1000);
  assert.equal(delivery.position, beginning);
  isAway = false;
  await waitFor(async () => {
    await test.fill();
    return new Set(receiver.got.map(({ id }) => id)).size === 5000;
  }, { timeoutMs: 60_000 });
  assert.equal(receiver.got.length, 5000);
});

Deno.test("Delivery waits as long as the receiver asks for, and stops when it wants no more", async () => {
  await using test = await scene();
  const { stream, receiver, delivery } = test;
  let asked = 0;
  receiver.answer = () =>
    ++asked === 1
      ? new Response(null, { status: 429, headers: { "retry-after": "1" } })
      : new Response(null, { status: 410 });
  online(stream, "1");
  const began = performance.now();
  await test.fill();
  await waitFor(() => delivery.state(Date.now()).state === "gone");
  assert.ok(performance.now() - began >= 990);
  online(stream, "2");
  await test.fill();
  assert.equal(asked, 2);
});

Deno.test("Delivery goes on where another one stopped: what was under way comes again, with the same ids", async () => {
  await using test = await scene();
  const { stream, receiver, delivery, options } = test;
  online(stream, "1");
  await test.fill();
  await waitFor(() => delivery.position === stream.last);
  const state = delivery.state(Date.now());
  online(stream, "2");
  await test.fill();
  await waitFor(() => receiver.got.length === 2);
  await delivery[Symbol.asyncDispose]();
  await using next = new Delivery({ ...options, state });
  await next.fill(stream.last);
  await waitFor(() => receiver.got.length === 3 && next.position === stream.last);
  assert.deepEqual(receiver.got.map(({ subject }) => subject), ["user:1", "user:2", "user:2"]);
  assert.equal(receiver.got[1]?.id, receiver.got[2]?.id);
});
