/** A cluster in scheme jwt, its secrets, and what an attacker can make of them. For tests. */
import assert from "node:assert/strict";
import { base64url, SignJWT } from "jose";
import { dialects, type Json, TestClient } from "../../spear/test_client.ts";
import type { RunningProgram } from "./processes.ts";

export const secrets = {
  GRU_TOKEN1_SECRET: "the-business-system's-secret-is-this",
  GRU_TOKEN2_SECRET: "and-this-is-between-ticket-and-spear",
  GRU_CLUSTER_KEY: "all-programs-of-a-cluster-know-this!",
  GRU_STAT_API_KEY: "this-is-for-those-who-command-stats",
};

const [modern] = dialects;
if (modern === undefined) throw new Error("no dialect");

export interface Claims {
  readonly [claim: string]: unknown;
}

export class Scene {
  /** What must not be in any log. */
  readonly issued = new Set<string>(Object.values(secrets));
  #users = 0;

  constructor(
    readonly ticket: RunningProgram,
    readonly spears: Map<string, RunningProgram>,
    /** Of stat's HTTP API. */
    readonly api: string,
  ) {}

  /** One whom nobody has met, so that no limit and no connection of another attack counts. */
  stranger(): number {
    return ++this.#users;
  }

  async token1(claims: Claims, secret = secrets.GRU_TOKEN1_SECRET): Promise<string> {
    const nowS = Math.floor(Date.now() / 1000);
    const payload = { iss: "shop", aud: "gru", iat: nowS, exp: nowS + 600, name: "n", app: "1" };
    return this.#noted(
      await new SignJWT({ ...payload, ...claims }).setProtectedHeader({ alg: "HS256" })
        .sign(new TextEncoder().encode(secret)),
    );
  }

  /** A token2 as ticket would make it, but for what the attacker has changed. */
  async token2(claims: Claims, header: Claims = {}, secret = secrets.GRU_TOKEN2_SECRET) {
    const exp = Math.floor(Date.now() / 1000) + 30;
    const until = Date.now() + 60_000;
    const common = { name: "n", app: "1", users: ["*"], until, exp, jti: crypto.randomUUID() };
    return this.#noted(
      await new SignJWT({ ...common, groups: ["*"], nodes: [...this.spears.keys()], ...claims })
        .setProtectedHeader({ alg: "HS256", typ: "gru-token2+jwt", ...header })
        .sign(new TextEncoder().encode(secret)),
    );
  }

  async post(token1: string, headers: Record<string, string> = {}, query = "") {
    const response = await fetch(`${this.ticket.address}/ticket${query}`, {
      method: "POST",
      headers: { authorization: `Bearer ${token1}`, ...headers },
    });
    const body = await response.json();
    if (response.ok) this.#noted(body.data.token);
    return { status: response.status, body };
  }

  async get(userId: number, token1: string): Promise<Json> {
    const query = new URLSearchParams({ userId: `${userId}`, userName: "n", appType: "1", token1 });
    return await (await fetch(`${this.ticket.address}/ticket?${query}`)).json();
  }

  /** The answer to `auth` on a connection of its own, which a refusal ends. */
  async auth(address: string, userId: number, token2: string): Promise<Json> {
    await using client = await TestClient.connect(address, modern as typeof dialects[0]);
    const result = await client.request("auth", { id: userId, name: "n", appType: "1", token2 });
    if (result.success) this.#noted(result.data.resume);
    else await client.closed;
    return result;
  }

  async enter(userId: number, groups: unknown): Promise<TestClient> {
    const { body } = await this.post(await this.token1({ sub: `${userId}`, groups }));
    const { client } = await this.connect(body.data.addr, userId, body.data.token);
    return client;
  }

  /** A client that has come in, and its token to come back with. */
  async connect(
    address: string,
    userId: number,
    token2: string,
  ): Promise<{ readonly client: TestClient; readonly resume: string }> {
    const client = await TestClient.connect(address, modern as typeof dialects[0]);
    const result = await client.request("auth", { id: userId, name: "n", appType: "1", token2 });
    assert.equal(result.success, true, JSON.stringify(result));
    return { client, resume: this.#noted(result.data.resume) };
  }

  #noted(token: string): string {
    this.issued.add(token);
    return token;
  }
}

export function unsigned(header: Claims, payload: Claims): string {
  return `${base64url.encode(JSON.stringify(header))}.${
    base64url.encode(JSON.stringify(payload))
  }.`;
}

export function assertRefused(
  result: Json,
  errorCode: number,
  message: RegExp,
  what: string,
): void {
  assert.equal(result.success, false, `${what}: ${JSON.stringify(result)}`);
  assert.equal(result.errorCode, errorCode, `${what}: ${JSON.stringify(result)}`);
  assert.match(result.msg, message, what);
}
