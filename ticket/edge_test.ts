/** The same handler on Deno, Node and a Workers runtime, behind a real nginx, also when the inner ticket dies. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { SignJWT } from "jose";
import {
  freePort,
  projectRoot,
  ServerProcess,
  serverTest,
  waitFor,
} from "@gru/shared/testing/harness";
import { requireFrom } from "@gru/shared/testing/packages";
import { answers, type Front, makeCertificates, run, startFront } from "./front_testing.ts";

const secrets = {
  GRU_TOKEN1_SECRET: "business-secret-of-32-characters!",
  GRU_TOKEN2_SECRET: "our-own-secret-of-32-characters-!",
};

class Scene implements AsyncDisposable {
  readonly folder = Deno.makeTempDirSync({ prefix: "gru_edge_" });
  readonly #stack = new AsyncDisposableStack();

  /** Resolves to the port of the server. */
  async start(
    program: string,
    args: (port: number) => readonly string[],
    options: { readonly env?: Record<string, string>; readonly ready?: string } = {},
  ): Promise<{ readonly port: number; readonly process: ServerProcess }> {
    const port = freePort();
    const process = this.#stack.use(
      new ServerProcess(program, {
        args: [...args(port)],
        cwd: projectRoot,
        env: { PORT: String(port), ...options.env },
      }),
    );
    await process.ready(() => answers(`http://127.0.0.1:${port}${options.ready ?? "/"}`), {
      what: program,
    });
    return { port, process };
  }

  async nginx(ticketPort: number): Promise<Front> {
    return this.#stack.use(await startFront({ folder: this.folder, ticketPort }));
  }

  async bundle(entry: string, platform: "deno" | "browser"): Promise<string> {
    const file = join(this.folder, `${entry}.mjs`);
    await run(Deno.execPath(), [
      ...["bundle", "--quiet", "--minify", "--platform", platform],
      ...["--output", file, `ticket/${entry}.ts`],
    ], projectRoot);
    return file;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
    await Deno.remove(this.folder, { recursive: true });
  }
}

function workerdConfig(script: string, port: number, bindings: Record<string, string>): string {
  const list = Object.entries(bindings)
    .map(([name, value]) => `(name = ${JSON.stringify(name)}, text = ${JSON.stringify(value)})`);
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = .ticket),
    (name = "internet", network = (allow = ["public", "private", "local"])),
  ],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "main")],
);
const ticket :Workerd.Worker = (
  modules = [(name = "worker", esModule = embed ${JSON.stringify(script)})],
  compatibilityDate = "2026-01-01",
  compatibilityFlags = ["nodejs_compat"],
  bindings = [${list.join(", ")}],
);
`;
}

async function gzipped(file: string): Promise<number> {
  const stream = new Response(await Deno.readFile(file)).body?.pipeThrough(
    new CompressionStream("gzip"),
  );
  return (await new Response(stream).arrayBuffer()).byteLength;
}

function token1(userId: number): Promise<string> {
  return new SignJWT({ name: "Ann", app: "1", groups: ["*"] })
    .setProtectedHeader({ alg: "HS256" }).setSubject(String(userId)).setExpirationTime("1h")
    .sign(new TextEncoder().encode(secrets.GRU_TOKEN1_SECRET));
}

/** The part of an answer that must be the same on all platforms: everything except times and tokens. */
function comparable(status: number, contentType: string | null, body: string): string {
  return `${status} ${contentType} ${body}`
    .replace(/"(time|expiresAt)":\d{13}/g, '"$1":T')
    .replace(/"token":"[\w-]+\.[\w-]+\.[\w-]+"/g, '"token":"T"');
}

serverTest({
  name:
    "the handler gives the same answers on Deno, Node and Workers behind nginx, also after the inner ticket died",
  needs: "nginx",
  fn: async () => {
    await using scene = new Scene();
    await makeCertificates(scene.folder);
    const inner = await scene.start(Deno.execPath(), (port) => [
      ...["run", "--no-check", "--allow-net", "--allow-read", "--allow-env"],
      "ticket/edge_fixture.ts",
      ...["--auth.scheme", "jwt", "--port", String(port), "--limits.trustedHops", "1"],
    ], { env: secrets });
    const front = await scene.nginx(inner.port);
    const settings = {
      ...secrets,
      GRU_NODES_URL: `http://127.0.0.1:${front.nodes}/nodes`,
      GRU_TRUSTED_HOPS: "1",
    };

    // In turn, because the first bundling on a machine installs the bundler.
    const forNode = await scene.bundle("edge_node", "deno");
    const forWorkers = await scene.bundle("edge_workers", "browser");
    const startDeno = () =>
      scene.start(Deno.execPath(), (port) => [
        ...["serve", "--no-check", "--allow-net", `--allow-env=${Object.keys(settings)}`],
        ...["--ignore-env", "--host", "127.0.0.1", "--port", String(port)],
        "ticket/edge_deno.ts",
      ], { env: settings });
    const deno = await startDeno();
    const node = await scene.start("node", () => [forNode], { env: settings });
    // The path of the executable.
    const { default: workerd } = (await requireFrom(new URL("edge_test.lock", import.meta.url)))(
      "workerd",
    );
    const workers = await scene.start(workerd, (port) => {
      const file = join(scene.folder, "workerd.capnp");
      Deno.writeTextFileSync(file, workerdConfig("edge_workers.mjs", port, settings));
      return ["serve", file];
    });
    const platforms = {
      "Deno, with the registry": front.https,
      "Deno, edge": (await scene.nginx(deno.port)).https,
      "Node, edge": (await scene.nginx(node.port)).https,
      "Workers, edge": (await scene.nginx(workers.port)).https,
    };
    using client = Deno.createHttpClient({
      caCerts: [Deno.readTextFileSync(`${scene.folder}/ca.crt`)],
    });
    async function ask(port: number, path: string, init: RequestInit = {}): Promise<string> {
      const url = `https://localhost:${port}${path}`;
      const headers = { ...init.headers, host: "ticket.example.org" };
      const response = await fetch(url, { ...init, headers, client });
      const type = response.headers.get("content-type");
      return comparable(response.status, type, await response.text());
    }

    const bearers = new Map<number, string>();
    for (let userId = 1; userId <= 8; userId++) bearers.set(userId, await token1(userId));
    const query = (userId: number, token = bearers.get(userId)) =>
      `/ticket?userId=${userId}&userName=Ann&appType=1&token1=${token}`;
    const bearer = (userId: number, token = bearers.get(userId)) => ({
      method: "POST",
      headers: { authorization: `Bearer ${token}` },
    });
    const questions: Record<string, (port: number) => Promise<string>> = {
      ...Object.fromEntries([1, 2, 3, 4].map((userId) => [
        `GET, user ${userId}`,
        (port: number) => ask(port, query(userId)),
      ])),
      "POST, explained": (port) => ask(port, "/ticket?explain=1", bearer(5)),
      "GET, forged token": (port) => ask(port, query(6, "a.b.c")),
      "GET, nothing": (port) => ask(port, "/ticket"),
      "POST, forged token": (port) => ask(port, "/ticket", bearer(7, "a.b.c")),
      "POST, no token": (port) => ask(port, "/ticket", { method: "POST" }),
      "PUT": (port) => ask(port, "/ticket", { method: "PUT" }),
      "GET /gru.js": async (port) => {
        const answer = await ask(port, "/gru.js");
        return `${answer.slice(0, 80)}… of ${answer.length} characters`;
      },
      "GET /nodes from outside": (port) => ask(port, "/nodes"),
      "GET /metrics from outside": (port) => ask(port, "/metrics"),
    };
    const rows: string[][] = [["", ...Object.keys(platforms)]];
    async function compare(names: readonly string[], ports: Record<string, number>, when: string) {
      for (const name of names) {
        const given: string[] = [];
        for (const port of Object.values(ports)) given.push(await questions[name]?.(port) ?? "");
        for (const one of given) assert.equal(one, given.at(-1), name);
        const cells = Object.keys(platforms).map((platform) =>
          platform in ports ? `${given.at(-1)?.slice(0, 3)} same` : "dead"
        );
        rows.push([`${name}${when}`, ...cells]);
      }
    }
    await compare(Object.keys(questions), platforms, "");
    assert.match(await questions["GET, user 1"]?.(platforms["Workers, edge"]) ?? "", /spear\d/);
    assert.match(await ask(platforms["Workers, edge"], "/gru.js"), /^200 text\/javascript/);

    const before = await ask(platforms["Workers, edge"], query(8));
    await inner.process.kill();
    const { "Deno, with the registry": gone, ...edges } = platforms;
    assert.match(await ask(gone, query(8)), /^502 /);
    // From now on the cached list is stale.
    await waitFor(async () => {
      const response = await fetch(settings.GRU_NODES_URL);
      await response.body?.cancel();
      return response.ok && response.headers.get("x-cache") !== "HIT";
    }, { what: "the cached list to become stale" });
    for (const port of Object.values(edges)) assert.equal(await ask(port, query(8)), before);
    await compare(["GET, user 1", "POST, explained"], edges, ", inner ticket dead");
    // An instance that starts after the inner ticket died uses nginx's copy.
    const late = await startDeno();
    const response = await fetch(`http://127.0.0.1:${late.port}${query(8)}`);
    assert.equal(
      comparable(response.status, response.headers.get("content-type"), await response.text()),
      before,
    );

    const width = rows[0]?.map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0))) ?? [];
    // deno-lint-ignore no-console
    const print = (line: string) => console.log(`  ${line}`);
    for (const row of rows) print(row.map((cell, i) => cell.padEnd(width[i] ?? 0)).join("  "));
    for (const [name, file] of Object.entries({ Node: forNode, Workers: forWorkers })) {
      const { size } = Deno.statSync(file);
      print(`bundle for ${name}: ${size} bytes, ${await gzipped(file)} with gzip`);
    }
  },
});
