/**
 * Types for the used part of npm:node-zookeeper-client, which ships none. Of its internals only what is needed to work
 * around its faults.
 */
import { Buffer } from "node:buffer";
import { EventEmitter } from "node:events";
import type { Socket } from "node:net";

export interface Stat {
  /** 64-bit numbers are buffers of eight bytes. */
  readonly czxid: Buffer;
  readonly mzxid: Buffer;
  /** Unix milliseconds, of the last change. */
  readonly mtime: Buffer;
  readonly version: number;
  readonly ephemeralOwner: Buffer;
}

export interface WatchEvent {
  readonly type: number;
  readonly path: string;
}

export interface ZookeeperException extends Error {
  readonly code: number;
}

type Failure = ZookeeperException | null | undefined;

export interface Transaction {
  check(path: string): Transaction;
  commit(callback: (error: Failure) => void): void;
}

export interface Request {
  readonly header: { type: number; xid: number };
  readonly payload: null;
  toBuffer(): Buffer;
}

export interface Server {
  readonly host: string;
  readonly port: number | string;
}

export class ConnectionManager extends EventEmitter {
  state: number;
  /** undefined until the first connection. */
  socket?: Socket;
  /** In the order in which they are tried. */
  servers: readonly Server[];
  pendingBuffer: Buffer | null;
  /** The zxid of the last answer, eight bytes. */
  zxid: Buffer;
  connectTimeoutHandler: ReturnType<typeof setTimeout> | null;
  packetQueue: { shift(): { callback(error: Error): void } | undefined };
  findNextServer(use: (server: Server) => void): void;
  onSocketConnected(): void;
  onSocketData(chunk: Buffer): void;
  queue(request: Request, callback: (error: Failure) => void): void;
}

export class Client {
  readonly connectionManager: ConnectionManager;
  connect(): void;
  close(): void;
  addAuthInfo(scheme: string, auth: Buffer): void;
  getSessionId(): Buffer;
  getSessionTimeout(): number;
  create(
    path: string,
    data: Buffer,
    acls: readonly unknown[],
    mode: number,
    callback: (error: Failure) => void,
  ): void;
  remove(path: string, version: number, callback: (error: Failure) => void): void;
  setData(
    path: string,
    data: Buffer,
    version: number,
    callback: (error: Failure, stat: Stat) => void,
  ): void;
  getData(
    path: string,
    watcher: ((event: WatchEvent) => void) | undefined,
    callback: (error: Failure, data: Buffer | undefined, stat: Stat) => void,
  ): void;
  getChildren(
    path: string,
    watcher: ((event: WatchEvent) => void) | undefined,
    callback: (error: Failure, children: string[]) => void,
  ): void;
  transaction(): Transaction;
}

declare const zookeeper: {
  createClient(servers: string, options: { sessionTimeout: number; retries: number }): Client;
  readonly ACL: {
    readonly OPEN_ACL_UNSAFE: readonly unknown[];
    readonly CREATOR_ALL_ACL: readonly unknown[];
  };
  readonly CreateMode: { readonly PERSISTENT: number; readonly EPHEMERAL: number };
  readonly Exception: Readonly<Record<ExceptionName, number>> & {
    create(code: number): ZookeeperException;
  };
};

export type ExceptionName =
  | "CONNECTION_LOSS"
  | "SESSION_EXPIRED"
  | "AUTH_FAILED"
  | "NO_NODE"
  | "NO_AUTH"
  | "BAD_VERSION"
  | "NODE_EXISTS"
  | "NOT_EMPTY";

export default zookeeper;
