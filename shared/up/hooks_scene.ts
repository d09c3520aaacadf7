/**
 * The receiver of hooks, and stats that send to it, as processes: for tests. From the events alone the receiver rebuilds who is where.
 */
import { freePort, projectRoot, ServerProcess, taskArguments } from "@gru/shared/testing/harness";
import { verifyWebhook } from "@gru/shared/webhooks/signature";
import type { Json } from "../../spear/test_client.ts";
import type { TestCluster } from "./processes.ts";

const secret = `whsec_${btoa("a secret of at least 24 bytes")}`;

/** Rebuilds who is there from the events, and counts what should not be. */
export class Receiver implements AsyncDisposable {
  readonly online = new Set<string>();
  /** `group user` */
  readonly members = new Set<string>();
  readonly occupied = new Set<string>();
  readonly nodes = new Set<string>();
  readonly counts = { events: 0, doubled: 0, invented: 0, inverted: 0, requests: 0, refused: 0 };
  readonly gaps: Json[] = [];
  readonly kicked: string[] = [];
  /** Of all events, as they came. */
  readonly kinds: string[] = [];
  /** Ids of accepted messages. */
  readonly messages = new Set<string>();
  /** What becomes of a request: its answer, and whether what it brought is taken. */
  behave: () => Promise<{ readonly status: number; readonly takes: boolean }> = () =>
    Promise.resolve({ status: 200, takes: true });
  readonly #seen = new Set<string>();
  readonly #last = new Map<string, string>();
  readonly #server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const body = await request.text();
      verifyWebhook(secret, request.headers, body, { nowS: Date.now() / 1000 });
      this.counts.requests++;
      const { status, takes } = await this.behave();
      if (takes) { for (const event of JSON.parse(body)) this.#take(event); }
      if (status !== 200) this.counts.refused++;
      return new Response(null, { status });
    },
  );

  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}/`;
  }

  #take({ id, type, subject, data }: Json): void {
    if (this.#seen.has(id)) return void this.counts.doubled++;
    this.#seen.add(id);
    this.counts.events++;
    this.kinds.push(type);
    const last = this.#last.get(subject) ?? "0-0";
    if (compare(id, last) < 0) this.counts.inverted++;
    this.#last.set(subject, id);
    const { userId, groupId, node } = data;
    const change = (set: Set<string>, name: string, isThere: boolean) => {
      if (set.has(name) === isThere) this.counts.invented++;
      if (isThere) set.add(name);
      else set.delete(name);
    };
    if (type === "user.online" || type === "user.offline") {
      change(this.online, userId, type === "user.online");
    } else if (type === "member.joined" || type === "member.left") {
      change(this.members, `${groupId} ${userId}`, type === "member.joined");
    } else if (type === "group.occupied" || type === "group.vacated") {
      change(this.occupied, groupId, type === "group.occupied");
    } else if (type.startsWith("node.")) change(this.nodes, node, type === "node.joined");
    else if (type === "user.kicked") this.kicked.push(userId);
    else if (type === "message.accepted") this.messages.add(data.id);
    else if (type === "hooks.gap") {
      this.gaps.push(data);
      if (data.reset) { for (const set of [this.online, this.members, this.occupied]) set.clear(); }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

function compare(a: string, b: string): number {
  const [aMs = 0, aN = 0] = a.split("-").map(Number);
  const [bMs = 0, bN = 0] = b.split("-").map(Number);
  return aMs - bMs || aN - bN;
}

export interface HookStat {
  readonly httpPort: number;
  process: ServerProcess;
  /** Starts it again, after it was killed. */
  restart(): Promise<void>;
}

/** Two stats that send to the receiver; what is started here ends with the stack. */
export async function startHookStats(
  cluster: TestCluster,
  stack: AsyncDisposableStack,
  { url }: Receiver,
  { graceMs, redis = cluster.redis.url }: { readonly graceMs: number; readonly redis?: string },
): Promise<HookStat[]> {
  const folder = await Deno.makeTempDir();
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  const stats = await Promise.all([1, 2].map(async (id): Promise<HookStat> => {
    const [file, httpPort] = [`${folder}/stat${id}.json`, freePort()];
    await Deno.writeTextFile(
      file,
      JSON.stringify({
        ...{ id, port: freePort(), httpPort, redis },
        registry: `zookeeper://${cluster.zookeeper.address}/gru`,
        hooks: {
          graceMs,
          endpoints: [{
            ...{ name: "crm", url, allowPrivate: true, timeoutMs: 1000 },
            secretVariable: "GRU_HOOKS_SECRET_CRM",
          }],
        },
      }),
    );
    const args = taskArguments("stat").map((arg) =>
      arg.startsWith("--allow-read") ? `${arg},${file}` : arg
    );
    const spawn = async () => {
      const process = new ServerProcess(Deno.execPath(), {
        args: [...args, "--profile", file],
        cwd: projectRoot,
        env: { GRU_HOOKS_SECRET_CRM: secret },
      });
      await process.ready(() => isReady(httpPort), { what: `stat${id}` });
      return process;
    };
    const stat: HookStat = {
      httpPort,
      process: await spawn(),
      restart: async () => {
        await stat.process[Symbol.asyncDispose]();
        stat.process = await spawn();
      },
    };
    return stat;
  }));
  stack.defer(async () => {
    for (const { process } of stats) await process[Symbol.asyncDispose]();
  });
  return stats;
}

async function isReady(port: number): Promise<boolean> {
  const answer = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined);
  await answer?.body?.cancel();
  return answer?.ok === true;
}

/** The stat that sends now. */
export async function holderOf(stats: readonly HookStat[]): Promise<HookStat> {
  for (;;) {
    for (const stat of stats) {
      const url = `http://127.0.0.1:${stat.httpPort}/metrics`;
      const text = await fetch(url).then((answer) => answer.text(), () => "");
      if (/^gru_stat_hooks_sender\{[^}]*\} 1$/m.test(text)) return stat;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
