/** This machine, and what the servers on it use. Linux for all but the facts. */
import { cpus, totalmem } from "node:os";
import type { Asked } from "./flags.ts";
import { usageOf } from "./measures.ts";

/** For a document of results. */
export function machineFacts() {
  const all = cpus();
  return {
    os: Deno.build.os,
    arch: Deno.build.arch,
    cores: all.length,
    cpu: all[0]?.model ?? "",
    memoryMB: Math.round(totalmem() / 2 ** 20),
    deno: Deno.version.deno,
    v8: Deno.version.v8,
  };
}

/** What the servers and the kernel use now. */
export interface HostUsage {
  /** Resident memory of all servers, and their CPU time. */
  readonly memoryBytes: number;
  readonly cpuSeconds: number;
  /** Slab memory of the kernel. Sockets live there, of both ends where the load is on the same machine. */
  readonly slabBytes: number;
}

export interface Host {
  usage(): Promise<HostUsage>;
}

/** The servers of `--pid`, or those that listen at `--target` on this machine; undefined: there are none. */
export async function hostOf({ text }: Asked): Promise<Host | undefined> {
  if (Deno.build.os !== "linux") return undefined;
  const given = text("pid").split(",").filter((pid) => pid !== "").map(Number);
  const targets = text("ticket") === "" ? text("target").split(",") : [];
  const found = given.length > 0 ? given : (await Promise.all(targets.map(pidAt))).flat();
  const pids = [...new Set(found)];
  return pids.length === 0 ? undefined : { usage: () => usageOfAll(pids) };
}

/** The figures of clients that rest. The servers are the same in all three usages. */
export function idleFigures(
  { before, rested, after }: Readonly<Record<"before" | "rested" | "after", HostUsage>>,
  clients: number,
  seconds: number,
) {
  const cpuSeconds = after.cpuSeconds - rested.cpuSeconds;
  return {
    serverMB: after.memoryBytes / 2 ** 20,
    serverKBPerClient: (after.memoryBytes - before.memoryBytes) / clients / 1024,
    serverCpuMicrosPerSecondPerClient: cpuSeconds / seconds / clients * 1e6,
    kernelSlabKBPerClient: (after.slabBytes - before.slabBytes) / clients / 1024,
  };
}

async function usageOfAll(pids: readonly number[]): Promise<HostUsage> {
  const all = await Promise.all(pids.map(usageOf));
  const missing = pids[all.findIndex(({ memoryBytes }) => Number.isNaN(memoryBytes))];
  if (missing !== undefined) throw new Error(`--pid: no process ${missing}`);
  const slab = /^Slab:\s+(\d+)/m.exec(await output("cat", "/proc/meminfo"))?.[1];
  return {
    memoryBytes: all.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0),
    cpuSeconds: all.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0),
    slabBytes: Number(slab ?? NaN) * 1024,
  };
}

/** The process that listens there, if this machine has it and shows it. */
async function pidAt(target: string): Promise<number[]> {
  const { hostname, port } = new URL(target);
  if (!/^(127\.|localhost$|\[::1\]$)/.test(hostname)) return [];
  const text = await output("ss", "-Hltnp", `sport = :${port}`).catch(() => "");
  return [...text.matchAll(/\bpid=(\d+)/g)].map((match) => Number(match[1]));
}

async function output(program: string, ...args: string[]): Promise<string> {
  const { stdout } = await new Deno.Command(program, { args, stderr: "null" }).output();
  return new TextDecoder().decode(stdout);
}
