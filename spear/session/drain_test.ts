import assert from "node:assert/strict";
import { waitFor } from "@gru/shared/testing/harness";
import { drain } from "./drain.ts";
import type { Session } from "./session.ts";

Deno.test("drain asks a client as soon as there is a node that it can move to", async () => {
  const asked: string[] = [];
  const sessions = new Set<Session>();
  const session = {
    userId: "5",
    move: ({ name }: { readonly name: string }) => {
      asked.push(name);
      sessions.clear();
      return Promise.resolve();
    },
  } as unknown as Session;
  sessions.add(session);
  let places: { readonly name: string; readonly addr: string }[] = [];
  let looks = 0;
  const drained = drain({
    sessions,
    placesOf: () => {
      looks++;
      return places;
    },
    drainMs: 60_000,
  });
  await waitFor(() => looks > 1);
  places = [{ name: "spear2", addr: "http://127.0.0.1:2" }];
  const { moved, cutOff } = await drained;
  assert.deepEqual([asked, moved, cutOff], [["spear2"], 1, 0]);
});
