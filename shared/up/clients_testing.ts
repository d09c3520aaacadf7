/**
 * Clients that Gru's users have, in the environments where they run them: each as a program of its own, or a page, that does
 * what an application does and says what happens. `.ci/clients.sh` fetches them.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type ServerName, type ServerTest, serverTest } from "@gru/shared/testing/harness";
import type { Browser } from "./console_driver.ts";

/** As the script numbers it. */
const edition = 1;
const cache = Deno.env.get("XDG_CACHE_HOME") || `${Deno.env.get("HOME")}/.cache`;
const fetched = join(cache, "gru", `clients-${edition}`);
const sources = fileURLToPath(new URL("./clients/", import.meta.url));

export const transports = ["websocket", "polling", "upgrade"] as const;
export type Transport = typeof transports[number];

/** What an application learned: it is in, it is out, a message, its own one's result, an error. */
export interface Said {
  readonly via: Transport;
  readonly at: "in" | "out" | "msg" | "sent" | "error" | "refused";
  readonly text: string;
}

/** One version of a client, connected over each transport. */
export interface RunningClient extends AsyncDisposable {
  readonly said: Said[];
  /** What it wrote that is no event: for people. */
  readonly noise: string;
  send(via: Transport, text: string): Promise<void>;
}

export interface ClientKind {
  readonly name: string;
  /** Of Engine.IO. */
  readonly protocol: 3 | 4;
  start(setting: ClientSetting): Promise<RunningClient>;
}

export interface ClientSetting {
  readonly address: string;
  readonly group: number;
  readonly users: Readonly<Record<Transport, number>>;
}

/** A test that starts such clients. Without them it is ignored, with the reason and the command; with `CI` set it fails. */
export function clientsTest(test: ServerTest): void {
  if (exists(fetched)) return serverTest(test);
  const { needs: _, fn, ...definition } = test;
  const reason = "clients not fetched: sh .ci/clients.sh";
  const name = `${test.name} [${reason}]`;
  if (Deno.env.get("CI")) Deno.test(name, () => Promise.reject(new Error(reason)));
  else Deno.test({ ...definition, fn, name, ignore: true });
}

const javascript = [
  ["1.3", "1.3.7", "socket.io.js"],
  ["1.4", "1.4.8", "socket.io.js"],
  ["1.5", "1.5.1", "socket.io.js"],
  ["1.6", "1.6.0", "socket.io.js"],
  ["1.7", "1.7.4", "dist/socket.io.js"],
  ["2", "2.5.0", "dist/socket.io.js"],
  ["3", "3.1.3", "dist/socket.io.js"],
  ["4", "4.8.4", "dist/socket.io.js"],
] as const;

export interface Environment {
  readonly name: string;
  readonly needs: readonly ServerName[];
  readonly kinds: readonly ClientKind[];
}

export const node: Environment = {
  name: "Node",
  needs: ["node"],
  kinds: javascript.map(([major, version]) => ({
    name: `socket.io-client ${version}`,
    protocol: major < "3" ? 3 : 4,
    start: async (setting) => {
      const library = join(fetched, "npm/node_modules", `socket.io-client-${major}`);
      return new Program("node", [join(sources, "play_node.cjs"), library], setting);
    },
  })),
};

export const jvm: Environment = {
  name: "JVM",
  needs: ["java"],
  kinds: ([
    ["com.github.nkzawa", "0.4.0", 3],
    ["com.github.nkzawa", "0.6.0", 3],
    ["io.socket", "1.0.2", 3],
    ["io.socket", "2.1.2", 4],
  ] as const).map(([group, version, protocol]) => ({
    name: `${group} ${version}`,
    protocol,
    start: async (setting) => {
      const folder = await Deno.makeTempDir();
      const source = await Deno.readTextFile(join(sources, "Play.java"));
      await Deno.writeTextFile(
        join(folder, "Play.java"),
        group === "io.socket" ? source : source.replaceAll(
          "import io.socket.client",
          "import com.github.nkzawa.socketio.client",
        ),
      );
      const jars = join(fetched, "jvm", version, "*");
      const args = ["-cp", jars, join(folder, "Play.java")];
      return new Program("java", args, setting, () => Deno.remove(folder, { recursive: true }));
    },
  })),
};

export const python: Environment = {
  name: "Python",
  needs: ["python3"],
  kinds: ([["4", "4.6.1", 3], ["5", "5.13.0", 4]] as const).map(([major, version, protocol]) => ({
    name: `python-socketio ${version}`,
    protocol,
    start: async (setting) => {
      const environment = { PYTHONPATH: join(fetched, "python", major), PYTHONUTF8: "1" };
      return new Program("python3", [join(sources, "play.py")], setting, undefined, environment);
    },
  })),
};

/** Pages of an origin of their own. */
export function chromium(browser: () => Browser): Environment {
  return {
    name: "Chromium",
    needs: ["chromium"],
    kinds: javascript.map(([major, version, file]) => ({
      name: `socket.io-client ${version}`,
      protocol: major < "3" ? 3 : 4,
      start: async (setting) => {
        const library = join(fetched, "npm/node_modules", `socket.io-client-${major}`, file);
        return await BrowserPage.open(browser(), library, setting);
      },
    })),
  };
}

class Program implements RunningClient {
  readonly said: Said[] = [];
  noise = "";
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #outputs: Promise<void>[];
  readonly #after: (() => Promise<void>) | undefined;

  constructor(
    program: string,
    args: readonly string[],
    { address, group, users }: ClientSetting,
    after?: () => Promise<void>,
    env: Record<string, string> = {},
  ) {
    this.#after = after;
    this.#child = new Deno.Command(program, {
      args: [...args, address, String(group), JSON.stringify(users)],
      ...{ env, stdin: "piped", stdout: "piped", stderr: "piped" },
    }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.#outputs = [this.#child.stdout, this.#child.stderr].map((stream) => this.#read(stream));
  }

  async send(via: Transport, text: string): Promise<void> {
    await this.#input.write(new TextEncoder().encode(`${JSON.stringify({ via, text })}\n`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close().catch(() => {});
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
    await this.#child.status;
    await Promise.all(this.#outputs);
    await this.#after?.();
  }

  async #read(stream: ReadableStream<Uint8Array>): Promise<void> {
    let rest = "";
    const text = stream.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>);
    for await (const chunk of text) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line.startsWith("{")) this.said.push(JSON.parse(line));
        else this.noise = `${this.noise}${line}\n`.slice(-10_000);
      }
    }
  }
}

const lookEveryMs = 50;

class BrowserPage implements RunningClient {
  readonly said: Said[] = [];
  noise = "";
  readonly #page: Awaited<ReturnType<Browser["newPage"]>>;
  readonly #server: Deno.HttpServer;
  readonly #timer: ReturnType<typeof setInterval>;
  #looking: Promise<void> | undefined;

  private constructor(page: Awaited<ReturnType<Browser["newPage"]>>, server: Deno.HttpServer) {
    this.#page = page;
    this.#server = server;
    page.on("pageerror", ({ message }) => this.noise += `${message}\n`);
    this.#timer = setInterval(() => this.#looking ??= this.#look(), lookEveryMs);
  }

  static async open(
    browser: Browser,
    library: string,
    setting: ClientSetting,
  ): Promise<BrowserPage> {
    const files: Record<string, [string, string]> = {
      "/": [join(sources, "page.html"), "text/html"],
      "/play.js": [join(sources, "play.js"), "text/javascript"],
      "/socket.io.js": [library, "text/javascript"],
    };
    const server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      async (request) => {
        const [path, type] = files[new URL(request.url).pathname] ?? [];
        if (path === undefined) return new Response(null, { status: 404 });
        const headers = { "content-type": `${type};charset=utf-8` };
        return new Response(await Deno.readFile(path), { headers });
      },
    );
    const page = await browser.newPage({});
    const opened = new BrowserPage(page, server);
    const { port } = server.addr as Deno.NetAddr;
    await page.goto(`http://127.0.0.1:${port}/#${encodeURIComponent(JSON.stringify(setting))}`);
    return opened;
  }

  async send(via: Transport, text: string): Promise<void> {
    await this.#page.evaluate(`send(${JSON.stringify(via)}, ${JSON.stringify(text)})`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking;
    await this.#page.close();
    await this.#server.shutdown();
  }

  async #look(): Promise<void> {
    const script = `typeof said === "undefined" ? [] : said.splice(0)`;
    this.said.push(...await this.#page.evaluate<Said[]>(script).catch(() => []));
    this.#looking = undefined;
  }
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) throw error;
    return false;
  }
}
