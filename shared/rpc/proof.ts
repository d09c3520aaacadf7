/**
 * Calls that prove a key without sending it, and answers that prove it too. The registry may name a false address; a
 * program that listens there learns nothing that it can use. A proof is valid for one callee's registered address, one
 * method, path, body and set of terms, one life of the callee's process, 30 seconds, and one use.
 *
 * The time is the callee's clock since its start, which no change of a machine's clock moves. A caller learns that
 * clock, and the id of that life, from any answer. The callee rejects a proof for another life or time, in an answer
 * that it proves, and the caller makes a new proof. The caller counts its proofs. The callee keeps the last counts of
 * each recent caller.
 *
 * Request: `authorization: GruProof <life>.<time>.<caller>.<count>.<hash of the body>.<HMAC>`. Answer: `gru-proof:
 * <life>.<clock>.<HMAC>`.
 */
import { Buffer } from "node:buffer";
import { createHmac, hash, randomBytes } from "node:crypto";
import type { Seal } from "./lines.ts";

export const proofHeader = "gru-proof";

/** The greatest age of a proof when it arrives, including time in queues. */
export const proofMs = 30_000;

const scheme = "GruProof ";
/** Proofs of one caller may arrive out of order by this many. */
const countsKept = 2048;
/** A caller corrects its estimate of the callee's clock when it is wrong by more than this. */
const clockSlackMs = 1000;

/** A proof for one use is invalid for another, even if both have the same key. */
export type ProofUse = "rpc" | "api";

export interface RequestParts {
  readonly method: string;
  /** Including the query. */
  readonly path: string;
  /** Headers that change what the call does, in an order that both sides know; "" for a missing one. */
  readonly terms: readonly string[];
}

class Keys {
  readonly #call: Hmac;
  readonly #answer: Hmac;
  readonly #line: Hmac;

  constructor(key: string, use: ProofUse) {
    const derive = (side: string) => new Hmac(`gru ${use} ${side} 1`, key);
    this.#call = derive("call");
    this.#answer = derive("answer");
    this.#line = derive("line");
  }

  ofCall({ method, path, terms }: RequestParts, callee: string, claim: string): string {
    return this.#call.of([method, path, callee, ...terms, claim].join("\n"));
  }

  ofAnswer(call: string, status: number, claim: string, body: string): string {
    return this.#answer.of([call, status, claim, body].join("\n"));
  }

  /** For the connection that this call has opened. */
  sealOf(call: string): Seal {
    return (side, place, line) => this.#line.of(`${call}\n${side}\n${place}\n${line}`);
  }
}

/**
 * HMAC-SHA256, hexadecimal, with a key derived for one purpose. `createHmac` makes two native objects for each text,
 * which takes seven times as long as the hashing (Deno 2.9); the one-shot `hash` makes none. The derived key is 64
 * hexadecimal digits: exactly one block, so both padded keys are plain ASCII.
 */
export class Hmac {
  readonly #inner: string;
  readonly #outer: Uint8Array;
  readonly #innerDigest: Uint8Array;

  constructor(purpose: string, key: string) {
    const derived = createHmac("sha256", key).update(purpose).digest();
    const block = Buffer.from(derived.toString("hex"));
    this.#inner = block.map((byte) => byte ^ 0x36).toString();
    this.#outer = new Uint8Array([...block.map((byte) => byte ^ 0x5c), ...new Uint8Array(32)]);
    this.#innerDigest = this.#outer.subarray(64);
  }

  of(text: string): string {
    this.#innerDigest.setFromHex(hash("sha256", this.#inner + text, "hex"));
    return hash("sha256", this.#outer, "hex");
  }
}

export function bodyHash(body: string | Uint8Array | undefined): string {
  return body === undefined || body.length === 0 ? "" : hash("sha256", body, "hex");
}

/** Compares two digests in constant time. */
function same(a: string, b: string): boolean {
  let differences = a.length ^ b.length;
  for (let i = 0; i < a.length; i++) differences |= a.charCodeAt(i) ^ b.charCodeAt(i);
  return differences === 0;
}

export interface CallProof {
  readonly authorization: string;
  readonly mac: string;
}

/** The caller's side, for one callee. */
export class Prover {
  readonly #keys: Keys;
  readonly #callee: string;
  readonly #caller = randomBytes(9).toString("base64url");
  #count = 0;
  #life = "";
  #offsetMs = 0;

  /** `callee`: the address that the callee registered, `http://host:port`. */
  constructor(key: string, use: ProofUse, callee: string) {
    this.#keys = new Keys(key, use);
    this.#callee = callee;
  }

  /** The callee has proved that it knows the key. Before that, only a harmless call should be sent to it. */
  get calleeProven(): boolean {
    return this.#life !== "";
  }

  prove(parts: RequestParts, body: string | undefined): CallProof {
    const time = Math.round(performance.now() + this.#offsetMs);
    const claim = `${this.#life}.${time}.${this.#caller}.${++this.#count}.${bodyHash(body)}`;
    const mac = this.#keys.ofCall(parts, this.#callee, claim);
    return { authorization: `${scheme}${claim}.${mac}`, mac };
  }

  /**
   * Checks the header of the answer. `renewed`: the callee proved the answer, and has another life or time than the
   * call's proof; after a 401 the same call will be accepted with a new proof. `body` is left out when the callee does
   * not prove the body.
   */
  check(
    call: CallProof,
    status: number,
    header: string | null,
    body = "",
  ): "no" | "proved" | "renewed" {
    const [, life = "", clock = "", mac = ""] = /^([\w-]+)\.(\d+)\.([\w-]+)$/.exec(header ?? "") ??
      [];
    if (life === "") return "no";
    const expected = this.#keys.ofAnswer(call.mac, status, `${life}.${clock}`, bodyHash(body));
    if (!same(mac, expected)) return "no";
    const offsetMs = Number(clock) - performance.now();
    if (life === this.#life && Math.abs(offsetMs - this.#offsetMs) <= clockSlackMs) return "proved";
    this.#life = life;
    this.#offsetMs = offsetMs;
    return "renewed";
  }

  /** Of the lines on the connection that this call has opened. */
  sealOf(call: CallProof): Seal {
    return this.#keys.sealOf(call.mac);
  }
}

/** The result of a verification: the reason of a rejection, or the hash that the body must have. */
export interface Verification {
  readonly refusal?: "missing" | "wrong" | "outdated" | "used";
  /** What is wrong, and what to do about it. */
  readonly message?: string;
  /** undefined: the caller sent the key itself, so nothing is known about the body. */
  readonly bodyHash?: string | undefined;
  /** Makes the header of the answer; undefined for callers that do not ask for a proof. */
  readonly proveAnswer?: (status: number, body?: string) => string;
  /** Of the lines on the connection that this call opens. */
  readonly seal?: Seal;
}

export interface VerifierOptions {
  readonly key: string;
  readonly use: ProofUse;
  /**
   * The callee's registered address, `http://host:port`. Default, for servers without a registry: the request's own.
   */
  readonly callee?: (() => string) | undefined;
  /** The key's name in messages: `The cluster key`. */
  readonly keyName: string;
}

interface Caller {
  /** The highest count received, for each remainder of the count modulo the length. */
  readonly counts: Float64Array;
  lastAt: number;
}

/**
 * The callee's side. A caller may also send the key itself, as old programs and business systems do: `Bearer <key>`.
 */
export class Verifier {
  readonly #options: VerifierOptions;
  readonly #keys: Keys;
  readonly #bearer: RegExp = /^bearer (.*)$/i;
  readonly #life = randomBytes(9).toString("base64url");
  readonly #bornAt = performance.now();
  readonly #callers = new Map<string, Caller>();
  #sweepAt = 2 * proofMs;

  constructor(options: VerifierOptions) {
    this.#options = options;
    this.#keys = new Keys(options.key, options.use);
  }

  /** Verifies a request before its body is read. */
  verify({ headers, method, url }: Request, ...terms: string[]): Verification {
    const { key, keyName } = this.#options;
    const authorization = headers.get("authorization");
    if (authorization === null || authorization === "") {
      return { refusal: "missing", message: `${keyName} is missing or wrong` };
    }
    if (!authorization.startsWith(scheme)) {
      const shown = this.#bearer.exec(authorization)?.[1];
      // Hashed first, so that the comparison takes the same time for any length.
      if (shown !== undefined && same(bodyHash(`.${shown}`), bodyHash(`.${key}`))) return {};
      return { refusal: "wrong", message: `${keyName} is missing or wrong` };
    }
    const slash = url.indexOf("/", url.indexOf("//") + 2);
    const callee = this.#options.callee?.() ?? url.slice(0, slash);
    const parts = { method, path: url.slice(slash), terms };
    const end = authorization.lastIndexOf(".");
    const claim = authorization.slice(scheme.length, end);
    const mac = authorization.slice(end + 1);
    if (!same(mac, this.#keys.ofCall(parts, callee, claim))) {
      return {
        refusal: "wrong",
        message: `${keyName} is missing or wrong: the proof is of another key, or for another ` +
          `address than ${callee}`,
      };
    }
    const [life, time, caller = "", count, hash] = claim.split(".");
    const clock = this.#clock();
    const proveAnswer = (status: number, body?: string) => {
      const claim = `${this.#life}.${this.#clock()}`;
      return `${claim}.${this.#keys.ofAnswer(mac, status, claim, bodyHash(body))}`;
    };
    const apartMs = Number(time) - clock;
    if (life !== this.#life || !(Math.abs(apartMs) <= proofMs)) {
      const message = life !== this.#life
        ? "The proof was made for another life of this program"
        : `The proof is ${Math.round(apartMs / 1000)} s off this program's clock; ` +
          `${proofMs / 1000} s are allowed`;
      return { refusal: "outdated", message, proveAnswer };
    }
    if (!this.#isFirst(caller, Number(count), clock)) {
      return { refusal: "used", message: "The proof was used before", proveAnswer };
    }
    return { bodyHash: hash, proveAnswer, seal: this.#keys.sealOf(mac) };
  }

  #clock(): number {
    return Math.round(performance.now() - this.#bornAt);
  }

  #isFirst(name: string, count: number, clock: number): boolean {
    if (clock >= this.#sweepAt) this.#sweep(clock);
    const caller = this.#callers.getOrInsertComputed(name, () => ({
      counts: new Float64Array(countsKept),
      lastAt: clock,
    }));
    caller.lastAt = clock;
    const place = count % countsKept;
    if (!(count > (caller.counts[place] ?? Infinity))) return false;
    caller.counts[place] = count;
    return true;
  }

  /** The proofs of a forgotten caller are outdated by then. */
  #sweep(clock: number): void {
    for (const [name, { lastAt }] of this.#callers) {
      if (clock - lastAt > 2 * proofMs) this.#callers.delete(name);
    }
    this.#sweepAt = clock + proofMs;
  }
}
