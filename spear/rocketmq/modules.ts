/**
 * Replaces two modules that RocketMQ's client loads and that would need large permissions for small things: a native
 * library (which may do anything) for a checksum, and the package cache (wherever that is) for the client's own
 * version. The replacements need no permission. And it gives an IP address of a server to TLS as its host: gRPC gives it as
 * a server name, which is refused. Must be imported before the client.
 */
import module from "node:module";
import { isIP } from "node:net";
import tls from "node:tls";
import { crc32 } from "node:zlib";
import manifest from "rocketmq-client-nodejs/package.json" with { type: "json" };

interface Loader {
  _load(
    request: string,
    parent?: { readonly filename?: string | null },
    ...rest: unknown[]
  ): unknown;
}

const loader = module as unknown as Loader;
const load = loader._load;
loader._load = function (request, parent, ...rest) {
  if (request === "@node-rs/crc32") return { crc32 };
  if (request === "node:fs" && parent?.filename?.endsWith("/dist/client/UserAgent.js")) {
    return { readFileSync: () => JSON.stringify({ version: manifest.version }) };
  }
  if (request === "tls" && parent?.filename?.endsWith("/src/channel-credentials.js")) {
    return { ...tls, connect: connectToAddress };
  }
  return load.call(this, request, parent, ...rest);
};

function connectToAddress(options: tls.ConnectionOptions, listener?: () => void): tls.TLSSocket {
  const { servername = "", ...others } = options;
  return isIP(servername) === 0
    ? tls.connect(options, listener)
    : tls.connect({ ...others, host: servername }, listener);
}
