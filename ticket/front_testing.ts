/** The sample nginx of `shared/deploy`, with the test's own ports, folders and certificate. */
import { join } from "node:path";
import { freePort, projectRoot, ServerProcess } from "@gru/shared/testing/harness";

export interface FrontOptions {
  /** Must hold `gru.crt` and `gru.key`, see {@linkcode makeCertificates}. nginx's files are written below it. */
  readonly folder: string;
  readonly ticketPort: number;
  readonly spearPort?: number;
  readonly consolePort?: number;
  /** More replacements, from the sample's text to the test's. */
  readonly changes?: Readonly<Record<string, string>>;
}

export interface Front extends AsyncDisposable {
  /** The public port, TLS. */
  readonly https: number;
  /** The port of `/nodes`, for tickets at the edge. */
  readonly nodes: number;
  /** The folder of `access.log` and `error.log`. */
  readonly folder: string;
}

export async function startFront(options: FrontOptions): Promise<Front> {
  const folder = Deno.makeTempDirSync({ dir: options.folder, prefix: "nginx_" });
  const [https, nodes] = [freePort(), freePort()];
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((kind) => `${kind}_temp_path ${folder}/${kind};`).join(" ");
  const changes: [string | RegExp, string][] = [
    ["127.0.0.1:30000", `127.0.0.1:${options.ticketPort}`],
    ["127.0.0.1:31001", `127.0.0.1:${options.spearPort ?? 31001}`],
    ["127.0.0.1:40000", `127.0.0.1:${options.consolePort ?? 40000}`],
    ["127.0.0.1:30080", `127.0.0.1:${nodes}`],
    ["listen 443", `listen 127.0.0.1:${https}`],
    [/\/etc\/nginx|\/run|\/var\/log\/nginx|\/var\/cache\/nginx/g, folder],
    ["worker_processes auto;", "worker_processes 1; daemon off; master_process off;"],
    ["http {", `http { ${temporary}`],
    ...Object.entries(options.changes ?? {}),
  ];
  const sample = Deno.readTextFileSync(join(projectRoot, "shared/deploy/nginx.conf"));
  const config = join(folder, "nginx.conf");
  Deno.writeTextFileSync(
    config,
    changes.reduce((text, [from, to]) => text.replaceAll(from, to), sample),
  );
  for (const extension of ["crt", "key"]) {
    Deno.copyFileSync(`${options.folder}/gru.${extension}`, `${folder}/gru.${extension}`);
  }
  const process = new ServerProcess("nginx", {
    args: ["-c", config, "-p", folder, "-e", `${folder}/error.log`],
    cwd: folder,
  });
  await process.ready(() => answers(`http://127.0.0.1:${nodes}/`), { what: "nginx" });
  return { https, nodes, folder, [Symbol.asyncDispose]: () => process[Symbol.asyncDispose]() };
}

/** True when a server answers there, with any status. */
export async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(url);
    await response.body?.cancel();
    return true;
  } catch {
    return false;
  }
}

/** `gru.crt` and `gru.key` for this machine, signed by `ca.crt`. */
export async function makeCertificates(folder: string): Promise<void> {
  const key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
  Deno.writeTextFileSync(
    `${folder}/ext`,
    "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE",
  );
  for (
    const command of [
      `req -x509 ${key} -keyout ca.key -out ca.crt -days 2 -subj /CN=ca`,
      `req ${key} -keyout gru.key -out gru.csr -subj /CN=gru`,
      "x509 -req -in gru.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out gru.crt",
    ]
  ) {
    await run("openssl", command.split(" "), folder);
  }
}

/** @throws {Error} with the program's output when it fails. */
export async function run(program: string, args: readonly string[], cwd: string): Promise<void> {
  const { success, stderr } = await new Deno.Command(program, { args: [...args], cwd }).output();
  if (success) return;
  throw new Error(`${program} ${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
}
