/** Calls to stat's HTTP API, at any instance that answers. Calls and answers prove the API key. */
import { operatorHeader } from "@gru/stat/contract";
import { type CallProof, proofHeader, Prover } from "@gru/shared/rpc/proof";

export interface StatCall {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Who has the console do it: name and address, for stat's audit log. */
  readonly operator?: string;
}

/** Its message is for the user of the console. */
export class Unreachable extends Error {
  override readonly name = "Unreachable";
}

/** stat answers, and says that it cannot do it. */
export class StatRefused extends Unreachable {}

/** The call was not sent: it may be sent to another instance, whatever it does. */
class NotSent extends Unreachable {}

export class StatCalls {
  readonly #origins: () => readonly string[];
  readonly #apiKey: string | undefined;
  readonly #provers = new Map<string, Prover>();

  /** `origins`: the registered addresses of the live instances. */
  constructor(origins: () => readonly string[], apiKey: string | undefined) {
    this.#origins = origins;
    this.#apiKey = apiKey;
  }

  /** @throws {Unreachable} when no instance answers, or no instance has the key. */
  async ask(path: string, call: StatCall = {}): Promise<Response> {
    const origins = shuffled(this.#origins());
    for (const known of this.#provers.keys()) {
      if (!origins.includes(known)) this.#provers.delete(known);
    }
    let problem = new Unreachable("no stat is alive");
    for (const origin of origins) {
      try {
        return await this.#askAt(origin, path, call);
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error;
        problem = error;
        if (!(error instanceof NotSent) && (call.method ?? "GET") !== "GET") break;
      }
    }
    throw problem;
  }

  async #askAt(origin: string, path: string, call: StatCall): Promise<Response> {
    const key = this.#apiKey;
    if (key === undefined) return await refusedKey(await this.#send(origin, path, call));
    const prover = this.#provers.getOrInsertComputed(origin, () => new Prover(key, "api", origin));
    // An impostor gets no command, and nothing that it could forward.
    if (!prover.calleeProven) await this.#handshake(origin, prover);
    let [response, found] = await this.#prove(prover, origin, path, call);
    if (found === "renewed" && response.status === 401) {
      await response.body?.cancel();
      [response, found] = await this.#prove(prover, origin, path, call);
    }
    if (found === "no") throw await notStat(origin, response);
    return await refusedKey(response);
  }

  /**
   * Sends a call that is always refused, because its time is unknown: the refusal contains the time and proves the key.
   */
  async #handshake(origin: string, prover: Prover): Promise<void> {
    try {
      const [response, found] = await this.#prove(prover, origin, "/nodes", {});
      if (found === "no") throw await notStat(origin, response);
      await response.body?.cancel();
    } catch (error) {
      throw new NotSent((error as Error).message);
    }
  }

  async #prove(prover: Prover, origin: string, path: string, call: StatCall) {
    const { method = "GET", headers, body, operator } = call;
    const { pathname, search } = new URL(origin + path);
    const terms = [
      headers?.["idempotency-key"] ?? "",
      ...(operator === undefined ? [] : [operator]),
    ];
    const proof: CallProof = prover.prove({ method, path: pathname + search, terms }, body);
    const { authorization } = proof;
    const response = await this.#send(origin, pathname + search, {
      ...call,
      headers: { ...headers, authorization },
    });
    const found = prover.check(proof, response.status, response.headers.get(proofHeader));
    return [response, found] as const;
  }

  async #send(
    origin: string,
    path: string,
    { operator, headers, ...call }: StatCall,
  ): Promise<Response> {
    const all = { ...headers, ...(operator === undefined ? {} : { [operatorHeader]: operator }) };
    try {
      return await fetch(origin + path, { ...call, headers: all, redirect: "manual" });
    } catch (error) {
      throw new Unreachable(`stat at ${origin} does not answer: ${(error as Error).message}`);
    }
  }
}

async function refusedKey(response: Response): Promise<Response> {
  if (response.status !== 401) return response;
  await response.body?.cancel();
  throw new NotSent("stat refuses the key of this console: GRU_STAT_API_KEY");
}

async function notStat(origin: string, response: Response): Promise<Unreachable> {
  await response.body?.cancel();
  return new Unreachable(
    response.status === 401
      ? "stat refuses the key of this console: GRU_STAT_API_KEY"
      : `stat at ${origin} did not prove that it has the key of this console: GRU_STAT_API_KEY`,
  );
}

function shuffled(all: readonly string[]): string[] {
  return all.map((one) => [Math.random(), one] as const).sort(([a], [b]) => a - b).map(([, one]) =>
    one
  );
}
