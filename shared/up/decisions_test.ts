/** A cluster in this process whose users the business system admits and whose messages it decides about. */
import assert from "node:assert/strict";
import { connect, type Gru, type Message, type State } from "@gru/client";
import { loadConfig } from "@gru/shared/config";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { waitFor } from "@gru/shared/testing/harness";
import { receiver } from "@gru/shared/webhooks/receiver";
import { spearSchema } from "../../spear/config.ts";
import { startSpear } from "../../spear/spear.ts";
import { startTicket, ticketSchema } from "../../ticket/ticket.ts";

const secrets = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const environment: Readonly<Record<string, string>> = {
  GRU_TOKEN2_SECRET: "our-own-secret-of-32-characters-!",
  GRU_ADMISSION_SECRET: secrets,
  GRU_DECISIONS_SECRET: secrets,
};

/** Its users have sessions `session-of-1`, `session-of-2`, … */
function businessSystem() {
  const app = receiver({
    secrets,
    decide: {
      admission: ({ token1 }) => {
        const [, userId] = /^session-of-(\d+)$/.exec(token1) ?? [];
        return userId === undefined
          ? { action: "refuse", reason: "please sign in" }
          : { action: "allow", userId, groups: ["room:*"], rightsMs: 60_000 };
      },
      beforeSend: ({ content }) => ({ action: content === "troll" ? "hide" : "allow" }),
    },
  });
  return Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, app.fetch);
}

Deno.test("users are let in without JSON Web Tokens, and who is hidden sees only himself", async () => {
  await using stack = new AsyncDisposableStack();
  const server = businessSystem();
  stack.defer(() => server.shutdown());
  const url = `http://127.0.0.1:${server.addr.port}/decisions`;
  const registry = stack.use(new MemoryRegistry());
  const load = (program: string, flags: Readonly<Record<string, string | number>>) => ({
    program,
    profiles: new URL(`../../${program}/profiles/`, import.meta.url),
    environment: (name: string) => environment[name],
    args: Object.entries({ "auth.scheme": "hook", "log.level": "error", port: 0, ...flags })
      .map(([key, value]) => `--${key}=${value}`),
  });
  const config = loadConfig({
    ...load("spear", { mode: "single", drainMs: 0 }),
    schema: spearSchema,
  });
  const { beforeSend } = spearSchema.shape.decisions.parse({
    secret: secrets,
    beforeSend: [{ match: "room:*", url, allowPrivate: true }],
  });
  const decisions = { ...config.decisions, beforeSend };
  stack.use(await startSpear({ ...config, decisions }, { registry }));
  const ticket = stack.use(
    await startTicket(
      loadConfig({
        ...load("ticket", { "auth.admission.url": url, "auth.admission.allowPrivate": "true" }),
        schema: ticketSchema,
      }),
      { registry },
    ),
  );
  const user = (id: number, token1: string): Gru => {
    const gru = connect({
      ticket: ticket.address,
      user: { id, name: `user${id}` },
      token: token1,
    });
    stack.defer(() => gru.close({ waitMs: 0 }));
    return gru;
  };
  const clients = [1, 2].map((id) => user(id, `session-of-${id}`));
  const rooms = clients.map((gru) => gru.group("room:1"));
  const [ann, bob] = rooms.map((room) => {
    const messages: Message[] = [];
    room.on("message", (message) => messages.push(message));
    return messages;
  });
  const contents = (messages: readonly Message[] = []) => messages.map(({ content }) => content);
  await waitFor(() => clients.every(({ state }) => state.name === "online"), { what: "online" });
  await waitFor(async () => (await rooms[0]?.online())?.length === 2, { what: "both are members" });
  for (const content of ["one", "troll", "two"]) await rooms[0]?.send(content);
  await waitFor(() => contents(ann).includes("two") && contents(bob).includes("two"), {
    what: "both hear the last message",
  });
  assert.deepEqual(contents(ann), ["one", "troll", "two"]);
  assert.deepEqual(contents(bob), ["one", "two"]);
  assert.deepEqual(ann?.map(({ seq }) => seq), [1, 1, 2]);

  const stranger = user(3, "nothing");
  await waitFor(() => stranger.state.name === "closed", { what: "the stranger is refused" });
  const { why } = stranger.state as Extract<State, { name: "closed" }>;
  assert.match(why?.message ?? "", /not admitted: please sign in/);
});
