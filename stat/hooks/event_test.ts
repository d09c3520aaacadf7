import assert from "node:assert/strict";
import { comparePositions, eventOf, fieldsOf } from "./event.ts";

Deno.test("an event is read as it was written; an unknown kind and wrong data are undefined", () => {
  const event = {
    kind: "member.joined",
    subject: "group:10",
    timeMs: 5,
    data: { groupId: "10", userId: "1" },
  } as const;
  const fields = fieldsOf(event);
  assert.deepEqual(eventOf("7-0", fields), { position: "7-0", ...event });
  for (const [field, value] of [["k", "member.danced"], ["d", "{}"], ["d", "{"]]) {
    const wrong = fields.map((text, i) => fields[i - 1] === field ? value ?? "" : text);
    assert.equal(eventOf("7-0", wrong), undefined);
  }
});

Deno.test("positions are compared as numbers", () => {
  const sorted = ["9-2", "9-10", "10-0"];
  assert.deepEqual(["10-0", "9-10", "9-2"].sort(comparePositions), sorted);
});
