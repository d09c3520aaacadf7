/** The profile's keys for RPC, for servers and clients. */
import { z } from "zod";
import { reachableHostSchema } from "../address.ts";
import { secret } from "../config.ts";
import type { TlsFiles } from "../http/serve.ts";
import { readPem } from "../pem.ts";

export const rpcShape = z.strictObject({
  timeoutMs: z.number().int().min(1).max(600_000).default(5000)
    .describe("milliseconds that a call between programs may take, over all its attempts"),
  maxConcurrent: z.number().int().min(1).default(1000)
    .describe("calls that this program works on at once; it refuses more as overloaded"),
  advertise: reachableHostSchema().optional()
    .describe("the host name or address at which the other programs reach this one")
    .meta({ whenMissing: "the value of host" }),
  certFile: z.string().min(1).optional()
    .describe("file with the PEM certificate of this node; it turns TLS on between the programs")
    .meta({ whenMissing: "no TLS" }),
  keyFile: z.string().min(1).optional().describe("file with the PEM key of the certificate")
    .meta({ whenMissing: "no TLS" }),
  caFile: z.string().min(1).optional().describe(
    "file with the PEM authorities of the cluster; callers without a certificate from them are refused",
  ).meta({ whenMissing: "callers need no certificate" }),
  clusterKey: secret("GRU_CLUSTER_KEY").describe(
    "the key that all programs of a cluster share; calls without it are refused",
  ),
}).refine((at) => (at.certFile === undefined) === (at.keyFile === undefined), {
  path: ["keyFile"],
  error: "set both certFile and keyFile, or neither",
}).refine((at) => at.caFile === undefined || at.certFile !== undefined, {
  path: ["caFile"],
  error: "caFile needs certFile and keyFile too: all nodes show certificates",
}).prefault({}).meta({ unknownKeys: "refuse" });

export type RpcConfig = z.output<typeof rpcShape>;

/**
 * Reads the profile's PEM files; undefined without `certFile`. Pass the result as `tls` to `serveHttp` and to
 * `connectRpc`.
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
