/** Certificates for tests, made by the openssl command. */
import assert from "node:assert/strict";
import { testWith } from "./harness.ts";

const host = "127.0.0.1";

/** Makes two authorities: the first certifies `node`, the second certifies `stranger`. */
export async function makeCertificates(stack: AsyncDisposableStack) {
  const folder = await Deno.makeTempDir();
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  const key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
  for (const [ca, node] of [["ca", "node"], ["otherca", "stranger"]]) {
    await openssl(
      folder,
      `req -x509 ${key} -keyout ${ca}.key -out ${ca}.pem -days 2 -subj /CN=${ca} -addext basicConstraints=critical,CA:TRUE`,
    );
    await openssl(folder, `req ${key} -keyout ${node}.key -out ${node}.csr -subj /CN=${node}`);
    await Deno.writeTextFile(
      `${folder}/ext`,
      `subjectAltName=IP:${host}\nbasicConstraints=CA:FALSE`,
    );
    await openssl(
      folder,
      `x509 -req -in ${node}.csr -CA ${ca}.pem -CAkey ${ca}.key -CAcreateserial -days 2 -extfile ext -out ${node}.pem`,
    );
  }
  const file = (name: string) => `${folder}/${name}`;
  const read = (name: string) => Deno.readTextFileSync(file(name));
  return {
    file,
    node: { cert: read("node.pem"), key: read("node.key"), ca: read("ca.pem") },
    stranger: { cert: read("stranger.pem"), key: read("stranger.key"), ca: read("ca.pem") },
  };
}

async function openssl(folder: string, args: string): Promise<void> {
  const { success, stderr } = await new Deno.Command("openssl", {
    args: args.split(" "),
    cwd: folder,
    stdout: "null",
    stderr: "piped",
  }).output();
  assert(success, new TextDecoder().decode(stderr));
}

/** A test that needs openssl: for its absence, see {@linkcode testWith}. */
export function tlsTest(name: string, fn: (stack: AsyncDisposableStack) => Promise<void>): void {
  testWith(hasOpenssl() ? undefined : "openssl not installed: apt-get install openssl", {
    name,
    fn: async () => {
      await using stack = new AsyncDisposableStack();
      await fn(stack);
    },
  });
}

export function hasOpenssl(): boolean {
  try {
    return new Deno.Command("openssl", { args: ["version"], stdout: "null" }).outputSync().success;
  } catch {
    return false;
  }
}
