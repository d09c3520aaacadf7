/**
 * stat's HTTP API for the terminal: `deno task gru <command>`. Exits with 0; with 1 when the call was refused or failed; with 2
 * when the arguments are wrong.
 */
import { parseArgs } from "node:util";
import { serverSentEvents } from "./client/events.ts";
import { idsIn, token1 } from "./client/token1.ts";

const usage = `deno task gru <command> [options]

publish (--group ID | --user ID) TEXT [--as ID] [--once KEY]   a message; the same KEY sends it once
kick USER [--reason TEXT] [--ban MINUTES]                      ends all connections of a user
kick --group ID [USER] [--reason TEXT] [--ban MINUTES]         takes one user, or all, out of a group
mute USER [--minutes N] [--reason TEXT]                        a user may send nothing, for an hour
mute --group ID [USER] [--minutes N] [--reason TEXT]           nobody, or one user, may send to a group
unmute USER, unmute --group ID [USER]                          lifts that
tail [--group ID]… [--user ID]…                                messages as they flow
events [KIND]…                                                 events of hooks as they happen
users [--group ID] [--search PREFIX]                           who is online
groups [--search PREFIX]                                       groups with users
nodes                                                          the spears
token USER [--groups LIST] [--minutes N] [--key FILE]          a token1 for trying, scheme jwt

--api URL    default http://127.0.0.1:50000; the key comes from GRU_STAT_API_KEY
--json       answers as JSON
`;

const options = {
  api: { type: "string", default: "http://127.0.0.1:50000" },
  json: { type: "boolean", default: false },
  help: { type: "boolean", default: false },
  group: { type: "string", multiple: true },
  user: { type: "string", multiple: true },
  as: { type: "string" },
  once: { type: "string" },
  reason: { type: "string" },
  ban: { type: "string" },
  search: { type: "string" },
  groups: { type: "string", default: "*" },
  minutes: { type: "string", default: "60" },
  key: { type: "string", default: "token1.key" },
} as const;

class UsageError extends Error {}

type Values = ReturnType<typeof read>["values"];
// deno-lint-ignore no-explicit-any
type Json = any;

function read(args: readonly string[]) {
  return parseArgs({ args: [...args], options, allowPositionals: true });
}

const commands: Readonly<
  Record<string, (values: Values, words: readonly string[]) => Promise<void>>
> = {
  async publish(values, words) {
    const [group, user] = [only(values, "group"), only(values, "user")];
    if ((group === undefined) === (user === undefined)) {
      throw new UsageError("publish: expected --group or --user");
    }
    const [text] = exactly("publish", words, "TEXT");
    const path = group === undefined
      ? `/users/${encoded(user)}/messages`
      : `/groups/${encoded(group)}/messages`;
    const { id, seq } = await call(values, "POST", path, {
      content: text,
      ...values.as === undefined ? {} : { fromId: values.as },
    }, values.once === undefined ? {} : { "idempotency-key": values.once });
    say(values, { id, seq }, `accepted as ${id}, number ${seq}`);
  },

  async kick(values, words) {
    const group = only(values, "group");
    const minutes = numberOf("ban", values.ban);
    const how = {
      ...values.reason === undefined ? {} : { reason: values.reason },
      ...minutes === undefined ? {} : { banMs: minutes * 60_000 },
    };
    const [user] = group === undefined ? exactly("kick", words, "USER") : words;
    const answer = group === undefined
      ? await call(values, "POST", `/users/${encoded(user)}/kick`, how)
      : await call(values, "POST", `/groups/${encoded(group)}/kick`, {
        ...how,
        ...user === undefined ? {} : { userId: user },
      });
    say(values, answer, `${answer.connections} connections${unreached(answer)}`);
  },

  async mute(values, words) {
    const minutes = numberOf("minutes", values.minutes) ?? 60;
    const answer = await call(values, "PUT", mutePath("mute", values, words), {
      ...values.reason === undefined ? {} : { reason: values.reason },
      muteMs: minutes * 60_000,
    });
    say(values, answer, `until ${new Date(answer.until).toISOString()}${unreached(answer)}`);
  },

  async unmute(values, words) {
    const answer = await call(values, "DELETE", mutePath("unmute", values, words));
    say(values, answer, `lifted${unreached(answer)}`);
  },

  async tail(values) {
    const query = new URLSearchParams([
      ...(values.group ?? []).map((id) => ["group", id]),
      ...(values.user ?? []).map((id) => ["user", id]),
    ]);
    if (query.size === 0) throw new UsageError("tail: expected --group or --user");
    for await (const { event, data } of stream(values, `/listen?${query}`)) {
      // deno-lint-ignore no-console
      if (event === "away") console.error(data.message);
      if (event !== "messages") continue;
      for (const heard of data.messages) {
        const { target, message } = heard;
        say(
          values,
          heard,
          `${target.kind} ${target.id}, from ${message.fromId}: ${message.content}`,
        );
      }
    }
  },

  async events(values, words) {
    const query = words.length === 0 ? "" : `?events=${encoded(words.join(","))}`;
    for await (const { event, data } of stream(values, `/events${query}`)) {
      if (event === "listening") continue;
      say(
        values,
        data,
        `${data.time ?? ""} ${data.type ?? ""} ${JSON.stringify(data.data ?? data)}`,
      );
    }
  },

  async users(values) {
    const group = only(values, "group");
    const path = group === undefined ? "/users" : `/groups/${encoded(group)}/users`;
    for await (const { userId, nodes } of pages(values, path, "users")) {
      say(values, { userId, nodes }, `${userId}  ${list(nodes)}`);
    }
  },

  async groups(values) {
    for await (const { groupId, nodes } of pages(values, "/groups", "groups")) {
      say(values, { groupId, nodes }, `${groupId}  ${list(nodes)}`);
    }
  },

  async nodes(values) {
    for (const node of (await call(values, "GET", "/nodes")).nodes) {
      const draining = node.draining ? "  draining" : "";
      say(
        values,
        node,
        `${node.node}  ${node.connections} connections  ${node.address ?? "no address"}${draining}`,
      );
    }
  },

  async token(values, words) {
    const [user = ""] = exactly("token", words, "USER");
    const token = await token1({
      ...{ key: Deno.readTextFileSync(values.key), user, name: `user ${user}`, app: "1" },
      ...{ groups: idsIn(values.groups), minutes: numberOf("minutes", values.minutes) ?? 60 },
    });
    say(values, { token }, token);
  },
};

function mutePath(command: string, values: Values, words: readonly string[]): string {
  const group = only(values, "group");
  if (group !== undefined && words.length === 0) return `/groups/${encoded(group)}/mute`;
  const [user] = exactly(command, words, "USER");
  return `/users/${encoded(user)}${group === undefined ? "" : `/groups/${encoded(group)}`}/mute`;
}

function unreached({ failed }: Json): string {
  const nodes = failed.map(({ node }: Json) => node);
  return nodes.length === 0 ? "" : `; no answer from ${nodes.join(", ")}`;
}

function list(nodes: readonly (string | { readonly node: string })[]): string {
  return nodes.map((one) => typeof one === "string" ? one : one.node).join(" ");
}

function only(values: Values, name: "group" | "user"): string | undefined {
  const given = values[name] ?? [];
  if (given.length > 1) throw new UsageError(`--${name}: expected once`);
  return given[0];
}

function exactly(command: string, words: readonly string[], ...names: readonly string[]) {
  if (words.length === names.length) return words;
  throw new UsageError(`${command}: expected ${names.join(" ")}, got ${words.length} words`);
}

function numberOf(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (value > 0) return value;
  throw new UsageError(`--${name}: expected a number of minutes, is "${text}"`);
}

function encoded(text = ""): string {
  return encodeURIComponent(text);
}

function say({ json }: Values, value: unknown, text: string): void {
  // deno-lint-ignore no-console
  console.log(json ? JSON.stringify(value) : text);
}

async function request(values: Values, path: string, init: RequestInit = {}): Promise<Response> {
  const key = Deno.env.get("GRU_STAT_API_KEY");
  const answer = await fetch(new URL(values.api.replace(/\/$/, "") + path), {
    ...init,
    headers: {
      ...init.headers as Record<string, string>,
      ...key === undefined ? {} : { authorization: `Bearer ${key}` },
    },
  });
  if (answer.ok) return answer;
  const { error } = await answer.json().catch(() => ({}));
  throw new Error(
    error === undefined ? `HTTP ${answer.status}` : `${error.code}: ${error.message}`,
  );
}

async function call(
  values: Values,
  method: "GET" | "POST" | "PUT" | "DELETE",
  path: string,
  body?: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<Json> {
  const answer = await request(values, path, {
    method,
    headers: { ...headers, ...body === undefined ? {} : { "content-type": "application/json" } },
    ...body === undefined ? {} : { body: JSON.stringify(body) },
  });
  return await answer.json();
}

async function* pages(values: Values, path: string, of: string): AsyncGenerator<Json> {
  let cursor: string | undefined;
  do {
    const query = new URLSearchParams({
      limit: "1000",
      ...values.search === undefined ? {} : { search: values.search },
      ...cursor === undefined ? {} : { cursor },
    });
    const page = await call(values, "GET", `${path}?${query}`);
    yield* page[of];
    cursor = page.next ?? undefined;
  } while (cursor !== undefined);
}

/** Server-sent events, until the server ends them. */
async function* stream(
  values: Values,
  path: string,
): AsyncGenerator<{ readonly event: string; readonly data: Json }> {
  const { body } = await request(values, path);
  for await (const { event = "message", data } of body === null ? [] : serverSentEvents(body)) {
    yield { event, data: JSON.parse(data) };
  }
}

if (import.meta.main) {
  try {
    const { values, positionals: [name = "", ...words] } = read(Deno.args);
    const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
    // deno-lint-ignore no-console
    if (values.help || name === "") console.log(usage);
    else if (command === undefined) throw new UsageError(`there is no command ${name}`);
    else await command(values, words);
  } catch (error) {
    const isUsage = error instanceof UsageError ||
      (error as { code?: string }).code?.startsWith("ERR_PARSE_ARGS") === true;
    // deno-lint-ignore no-console
    console.error(error instanceof Error ? error.message : String(error));
    // deno-lint-ignore no-console
    if (isUsage) console.error(`\n${usage}`);
    Deno.exit(isUsage ? 2 : 1);
  }
}
