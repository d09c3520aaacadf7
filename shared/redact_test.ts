import assert from "node:assert/strict";
import fc from "fast-check";
import { configure, reset } from "@logtape/logtape";
import { instanceKey, logFormatter, logger, takeConsole } from "./log.ts";
import { describeError, hideSecret, redact, safeValue } from "./redact.ts";

const marked = 'm4rked:secret/with"signs and a line\\n';
hideSecret(marked);

/** As ioredis rejects: the error carries the command and its arguments. */
function driverError(message = "WRONGPASS invalid username-password pair"): Error {
  const command = { name: "auth", args: ["default", marked] };
  return Object.assign(new Error(message), {
    command,
    config: { headers: { authorization: marked } },
  });
}

function lines(error: unknown) {
  return (["text", "json"] as const).flatMap((format) =>
    (["debug", "info", "warning", "error"] as const).map((level) =>
      logFormatter({ level, format })({
        category: ["gru", "test"],
        level: "warning",
        message: ["failed: ", error, ""],
        rawMessage: "failed: {error}",
        timestamp: 0,
        properties: { error, inner: { password: marked, list: [error] } },
      })
    )
  );
}

Deno.test("an error in a log line shows its message and its cause, never the fields that a driver attached", () => {
  const error = new Error("Cannot connect", { cause: driverError() });
  const text = driverError(`ERR unknown command 'x', with args beginning with: '${marked}'`);
  for (const line of [...lines(error), ...lines(text)]) {
    assert.doesNotMatch(line, /m4rked/);
  }
  for (const line of lines(error)) {
    assert.match(line, /failed: .*Cannot connect/);
    assert.match(line, /WRONGPASS invalid username-password pair/);
    assert.doesNotMatch(line, /m4rked|"args"|args:/);
  }
});

Deno.test("a JSON line of an error is one line whose message and properties hold the error's message", () => {
  const line = logFormatter({ level: "info", format: "json" })({
    category: ["gru"],
    level: "error",
    message: ["failed: ", new TypeError("no such thing"), ""],
    rawMessage: "failed: {error}",
    timestamp: 0,
    properties: { error: new TypeError("no such thing") },
  });
  assert.equal(line.trimEnd().includes("\n"), false);
  const { message, properties } = JSON.parse(line);
  assert.match(message, /^failed: .*TypeError: no such thing/);
  assert.equal(properties.error.message, "no such thing");
  assert.match(properties.error.stack, /redact_test\.ts/);
});

Deno.test("each line names the program, its instance and its version, and its message is readable in JSON", () => {
  const record = {
    category: ["gru", "spear"],
    level: "warning",
    message: ["", "ticket", " failed for ", "spear2", ": ", new Error("no route"), ""],
    rawMessage: "{event} failed for {node}: {error}",
    timestamp: 0,
    properties: { [instanceKey]: "spear1", node: "spear2" },
  } as const;
  const { program, node, version, message, properties } = JSON.parse(
    logFormatter({ level: "info", format: "json" })(record),
  );
  assert.deepEqual({ program, node, message }, {
    ...{ program: "spear", node: "spear1" },
    message: "ticket failed for spear2: Error: no route",
  });
  assert.deepEqual(properties, { node: "spear2" });
  const text = logFormatter({ level: "info", format: "text" })(record);
  assert.match(text, new RegExp(`\\[\\w+\\] spear1 ${version}: .* failed for`));
});

Deno.test("what libraries write with console becomes lines of the log", async () => {
  const lines: string[] = [];
  const format = logFormatter({ level: "info", format: "text" });
  await configure({
    reset: true,
    sinks: { list: (record) => lines.push(format(record)) },
    loggers: [
      { category: "gru", sinks: ["list"] },
      { category: ["logtape", "meta"], sinks: ["list"], lowestLevel: "error" },
    ],
  });
  try {
    const library: Partial<Console> = {};
    takeConsole(logger("spear"), library);
    library.warn?.("deprecated:", new Error(marked));
  } finally {
    await reset();
  }
  assert.equal(lines.length, 1);
  assert.match(lines[0] ?? "", /spear .*: a library says: .*deprecated: Error: \*\*\*/);
});

Deno.test("a secret is hidden anywhere in a text, also when encoded", () => {
  const encodings = [
    marked,
    encodeURIComponent(marked),
    JSON.stringify(marked),
    btoa(marked),
    marked.slice(marked.indexOf(":") + 1),
  ];
  fc.assert(fc.property(fc.string(), fc.string(), (before, after) => {
    for (const encoded of encodings) {
      for (const clean of [redact, describeError, (text: string) => String(safeValue(text))]) {
        assert.ok(!clean(before + encoded + after).includes(encoded.replace(/^"|"$|=+$/g, "")));
      }
    }
  }));
});

Deno.test("text that looks like a secret is hidden, and addresses stay readable", () => {
  for (
    const [text, clean] of [
      ["redis://user:p@ss/w:rd@host:6379/1", "redis://user:***@host:6379/1"],
      ["redis://:word@host", "redis://:***@host"],
      ["redis://user@host:6379", "redis://user@host:6379"],
      ["http://host:80/a?mail=a@b", "http://host:80/a?mail=a@b"],
      ["authorization: Bearer abcdefgh", "authorization: Bearer ***"],
      ["GET /ticket?userId=1&token1=abc&x=1", "GET /ticket?userId=1&token1=***&x=1"],
      ["token eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.sig is bad", "token *** is bad"],
      [
        "ERR unknown command 'AUTH', with args beginning with: 'x' 'y'",
        "ERR unknown command 'AUTH', with args beginning with: ***",
      ],
    ] as const
  ) {
    assert.equal(redact(text), clean);
  }
});

Deno.test("a value for a log keeps plain data and shows no object of a class", () => {
  assert.deepEqual(
    safeValue({ n: 1, list: ["a", null], at: new Date(0), token2: "x", request: new Headers() }),
    {
      n: 1,
      list: ["a", null],
      at: "1970-01-01T00:00:00.000Z",
      token2: "***",
      request: "[Headers]",
    },
  );
});
