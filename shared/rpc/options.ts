/** The keys of a profile that concern the RPC, as server and as client. */
import { z } from "zod";
import { ConfigError, secret } from "../config.ts";
import type { TlsFiles } from "../serve.ts";

export const rpcShape = z.strictObject({
  timeoutMs: z.number().int().min(1).max(600_000)
    .describe("a call's time limit over all its attempts"),
  maxConcurrent: z.number().int().min(1)
    .describe("calls a server works on at once; more are refused as overloaded"),
  advertise: z.string().min(1).optional()
    .describe("the host name at which the other programs reach this one; default: host"),
  certFile: z.string().min(1).optional().describe("PEM certificate of this node; turns TLS on"),
  keyFile: z.string().min(1).optional().describe("PEM key of the certificate"),
  caFile: z.string().min(1).optional()
    .describe(
      "PEM authorities of the cluster: callers without a certificate from them are refused",
    ),
  clusterKey: secret("GRU_CLUSTER_KEY").describe("shared by all programs; who lacks it is refused"),
}).refine((at) => (at.certFile === undefined) === (at.keyFile === undefined), {
  path: ["keyFile"],
  error: "certFile and keyFile go together",
}).refine((at) => at.caFile === undefined || at.certFile !== undefined, {
  path: ["caFile"],
  error: "caFile wants certFile and keyFile too: all nodes show certificates",
});

export type RpcConfig = z.output<typeof rpcShape>;

/**
 * What the profile's files hold; undefined without `certFile`. The same for both sides: a server is given it as `tls` of
 * `openHttp`, a client as `tls` of `connectRpc`.
 *
 * @throws {ConfigError} naming the key and the file that cannot be read.
 */
export function readTls(config: RpcConfig): TlsFiles | undefined {
  const { certFile, keyFile, caFile } = config;
  if (certFile === undefined || keyFile === undefined) return undefined;
  return {
    cert: readPem("rpc.certFile", certFile),
    key: readPem("rpc.keyFile", keyFile),
    ...(caFile === undefined ? {} : { ca: readPem("rpc.caFile", caFile) }),
  };
}

function readPem(key: string, path: string): string {
  let text;
  try {
    text = Deno.readTextFileSync(path);
  } catch (error) {
    throw new ConfigError(`${key}: cannot read ${path}: ${error}`);
  }
  if (text.includes("-----BEGIN ")) return text;
  throw new ConfigError(`${key}: ${path} is not a PEM file`);
}
