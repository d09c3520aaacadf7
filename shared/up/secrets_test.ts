/**
 * No secret reaches a log, an error or an answer, whatever the servers do that a program talks to. Each program is given
 * marked secrets, and all that it writes and answers is searched for them.
 */
import assert from "node:assert/strict";
import { freePort, type ServerProcess, serverTest, waitFor } from "@gru/shared/testing/harness";
import { FaultyProxy } from "@gru/shared/testing/proxy";
import { startRedis } from "@gru/shared/testing/redis";
import { startZookeeper } from "@gru/shared/testing/zookeeper";
import { type Flags, type ProgramName, spawnProgram } from "./processes.ts";

/** With characters that texts, addresses, JSON and commands write in different ways. */
const secrets = Object.fromEntries(
  [
    "GRU_CLUSTER_KEY",
    "GRU_REDIS_PASSWORD",
    "GRU_STAT_API_KEY",
    "GRU_SALT_TOSPEAR",
    "GRU_SALT_TOTICKET",
    "GRU_TOKEN1_SECRET",
    "GRU_TOKEN2_SECRET",
    "GRU_MINIONS_PASSWORD",
    "GRU_MINIONS_LOOK_PASSWORD",
  ].map((name) => [name, `m4rk"${name.toLowerCase()}%& /é of 32 characters`]),
) as Record<string, string>;
secrets.GRU_ZOOKEEPER_CREDENTIALS = `operator:m4rk"zookeeper/%é`;

const marks = Object.values(secrets).flatMap((secret) => {
  const whole = [secret, secret.slice(secret.indexOf(":") + 1)];
  return [...whole, ...whole.map(encodeURIComponent), ...whole.map(base64)];
});

function base64(text: string): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text))).replace(/=+$/, "");
}

function assertClean(what: string, text: string): void {
  assert.ok(!text.includes("m4rk"), `${what} gives a secret away: ${text}`);
  for (const mark of marks) assert.ok(!text.includes(mark), `${what} gives ${mark} away: ${text}`);
}

const looks = ["text", "json"].flatMap((format) =>
  ["debug", "info", "warning", "error"].map((level) => ({
    "log.format": format,
    "log.level": level,
  }))
);

/** Answers each connection's bytes by what `answer` makes of them. */
class Nonsense implements AsyncDisposable {
  connections = 0;
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #open = new Set<Deno.TcpConn>();
  readonly #serving: Promise<void>;

  constructor(answer: (received: string) => string) {
    this.#serving = this.#serve(answer);
  }

  get port(): number {
    return this.#listener.addr.port;
  }

  async #serve(answer: (received: string) => string): Promise<void> {
    const talks: Promise<void>[] = [];
    for await (const connection of this.#listener) {
      this.connections++;
      this.#open.add(connection);
      talks.push(this.#talk(connection, answer));
    }
    await Promise.all(talks);
  }

  async #talk(connection: Deno.TcpConn, answer: (received: string) => string): Promise<void> {
    const buffer = new Uint8Array(65_536);
    try {
      for (let length; (length = await connection.read(buffer)) !== null;) {
        const received = new TextDecoder().decode(buffer.subarray(0, length));
        await connection.write(new TextEncoder().encode(answer(received)));
      }
    } catch {
      // The program has gone.
    }
    this.#close(connection);
  }

  #close(connection: Deno.TcpConn): void {
    if (this.#open.delete(connection)) connection.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const connection of this.#open) this.#close(connection);
    await this.#serving;
  }
}

interface Fault {
  readonly name: string;
  readonly port: number;
  /** Of another scheme than the server's. */
  readonly tls?: true;
}

async function faultyRedises(stack: AsyncDisposableStack): Promise<Fault[]> {
  const start = async (...args: string[]) => stack.use(await startRedis({ args }));
  const nonsense = (answer: (received: string) => string) => stack.use(new Nonsense(answer)).port;
  const [wrong, open, full] = await Promise.all([
    // Started without the password, which the test's own question would lack.
    start(),
    start(),
    start("--maxclients", "1"),
  ]);
  await tell(wrong.port, "CONFIG SET requirepass another\r\n");
  stack.use(await Deno.connect({ hostname: "127.0.0.1", port: full.port }));
  const quoted = (received: string) => received.replace(/[\r\n]+/g, " ");
  return [
    { name: "a wrong password", port: wrong.port },
    { name: "no password", port: open.port },
    { name: "max number of clients", port: full.port },
    { name: "no TLS", port: open.port, tls: true },
    {
      name: "an error that repeats the command",
      port: nonsense((received) =>
        `-ERR unknown command, with args beginning with: ${quoted(received)}\r\n`.repeat(9)
      ),
    },
    {
      name: "an error of its own",
      port: nonsense((received) => `-BAD ${quoted(received)}\r\n`.repeat(9)),
    },
    { name: "a page", port: nonsense((received) => `HTTP/1.1 400 Bad\r\n\r\n<p>${received}`) },
    { name: "its own words", port: nonsense((received) => received) },
    { name: "bytes", port: nonsense((received) => `$-7\r\n*3\r\n:x\r\n\0\xff${received}`) },
    { name: "nobody", port: freePort() },
  ];
}

async function tell(port: number, words: string): Promise<void> {
  using connection = await Deno.connect({ hostname: "127.0.0.1", port });
  await connection.write(new TextEncoder().encode(words));
  await connection.read(new Uint8Array(100));
}

interface Answered {
  readonly name: string;
  readonly text: string;
}

/** What a port answers to all that is asked, by whom has the keys and by whom has not. */
async function answersOf(port: number, paths: readonly string[]): Promise<Answered[]> {
  const { GRU_CLUSTER_KEY: clusterKey = "", GRU_STAT_API_KEY: apiKey = "" } = secrets;
  const keys = ["wrong", clusterKey, apiKey].map((key) =>
    // A header is bytes.
    String.fromCharCode(...new TextEncoder().encode(key))
  );
  const asked = ["/healthz", "/readyz", "/metrics", ...paths].flatMap((path) =>
    keys.map(async (key) => {
      const call = /^\/(stat|spear)\//.test(path);
      try {
        const response = await fetch(`http://127.0.0.1:${port}${path}`, {
          headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
          ...(call ? { method: "POST", body: '{"groupId":"1","userId":"1","reason":"x"}' } : {}),
          signal: AbortSignal.timeout(10_000),
        });
        return {
          name: path,
          text: `${JSON.stringify([...response.headers])} ${await response.text()}`,
        };
      } catch (error) {
        return { name: path, text: String(error) };
      }
    })
  );
  return await Promise.all(asked);
}

async function isReady(port: number): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/readyz`);
    const { checks } = await response.json();
    // A spear without idgen and stat is not ready for other reasons.
    return response.ok || checks.redis === true && checks.broker === true;
  } catch {
    return false;
  }
}

/** Until the condition holds or the process has ended; the output is searched all along. */
async function watch(
  what: string,
  process: ServerProcess,
  condition: () => boolean | Promise<boolean>,
) {
  await waitFor(async () => {
    assertClean(what, process.output);
    return !process.running || await condition();
  }, { what: `${what}: the fault has been met` });
}

const calls = {
  stat: ["/stat/usersOfGroup", "/stat/bans", "/stat/nothing"],
  spear: ["/spear/kickUser", "/spear/publish", "/spear/nothing"],
} as const;
const api = ["/nodes", "/users", "/groups/1/users", "/bans", "/totals", "/getGroupStat?groupId=1"];

for (const program of ["stat", "spear"] as const) {
  serverTest({
    name: `${program} gives no secret away while Redis fails in every way, at every log level`,
    needs: "redis",
    fn: async () => {
      await using stack = new AsyncDisposableStack();
      const faults = await faultyRedises(stack);
      const redis = stack.use(await startRedis());
      await tell(
        redis.port,
        `CONFIG SET requirepass "${secrets.GRU_REDIS_PASSWORD?.replace(/"/g, '\\"')}"\r\n`,
      );
      let seen = "";

      async function play(look: Flags): Promise<void> {
        await using proxy = new FaultyProxy(redis);
        const [port, second] = [freePort(), freePort()];
        await using process = spawnProgram(program, "test1", {
          port,
          ...(program === "stat" ? { httpPort: second } : { monitorPort: second, mode: "redis" }),
          registry: "memory:",
          redis: `redis://127.0.0.1:${proxy.port}`,
          ...look,
        }, secrets);
        const inner = program === "stat" ? port : second;
        await process.ready(() => isReady(inner), { what: program });
        for (const fault of faults.filter(({ tls }) => tls === undefined)) {
          const what = `${program} ${JSON.stringify(look)} with Redis that is ${fault.name}`;
          // Each fault is met by a program that was well, and says anew what is wrong.
          await watch(what, process, () => isReady(inner));
          proxy.retarget(fault);
          proxy.cut();
          const before = proxy.answerBytes;
          const met = () => fault.name === "nobody" || proxy.answerBytes > before;
          await watch(what, process, met);
          const answers = [
            ...await answersOf(inner, calls[program]),
            ...program === "stat" ? await answersOf(second, api) : [],
          ];
          for (const { name, text } of answers) assertClean(`${what}: ${name}`, text);
          seen += answers.map(({ text }) => text).join("\n");
          proxy.retarget(redis);
          proxy.cut();
        }
        await process.kill("SIGTERM");
        assertClean(program, process.output);
        seen += process.output;
      }
      for (const look of looks) await play(look);
      // The search is worth nothing where nothing was said.
      assert.match(seen, /Redis/);
      assert.match(seen, /WRONGPASS|NOAUTH/);
    },
  });
}

serverTest({
  name: "a program that cannot start says why, and no secret",
  needs: ["redis", "zookeeper"],
  fn: async () => {
    await using stack = new AsyncDisposableStack();
    const faults = await faultyRedises(stack);
    const zookeeper = stack.use(await startZookeeper());
    const echo = stack.use(new Nonsense((received) => received));
    const taken = stack.use(new Nonsense(() => ""));
    const shut = { "zookeeper.acl": "digest", "zookeeper.sessionMs": 1000 };
    const cases: [ProgramName, string, Flags, (port: number) => boolean | Promise<boolean>][] = [];
    for (const { name, port, tls } of faults) {
      const redis = `${tls ? "rediss" : "redis"}://127.0.0.1:${port}`;
      // A Redis that wants no password will do.
      cases.push(["stat", `Redis is ${name}`, { registry: "memory:", redis }, isReady]);
    }
    for (const program of ["ticket", "spear", "stat", "idgen", "minions"] as const) {
      const registry = `zookeeper://127.0.0.1:${echo.port}/gru`;
      const before = () => echo.connections;
      const first = before();
      cases.push([program, "ZooKeeper repeats", { ...shut, registry }, () => before() > first + 1]);
      const served = { ...shut, registry: `zookeeper://${zookeeper.address}/gru` };
      cases.push([program, "its port is taken", {
        ...served,
        port: taken.port,
        ...(program === "spear" ? { mode: "single" } : {}),
        ...(program === "stat" ? { redis: "memory:" } : {}),
      }, () => false]);
      cases.push([
        program,
        "a flag is wrong",
        { port: "m", redis: "redis://u:m4rk@h" },
        () => false,
      ]);
    }
    let said = "";
    for (const [i, [program, what, flags, met]] of cases.entries()) {
      const look = looks[i % looks.length];
      const port = freePort();
      await using process = spawnProgram(program, "test1", {
        port,
        ...(program === "stat" ? { httpPort: freePort() } : {}),
        ...(program === "spear" ? { monitorPort: freePort() } : {}),
        ...look,
        ...flags,
      }, secrets);
      await watch(`${program} when ${what}`, process, () => met(port));
      await process.kill();
      assertClean(`${program} when ${what}`, process.output);
      said += process.output;
    }
    assert.match(said, /Redis/);
    assert.match(said, /Cannot listen|in use/);
  },
});
