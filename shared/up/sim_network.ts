/** What lies between the processes of a simulated cluster: ways that delay, block and split, and calls over them. */
import type { NodeCalls, NodeServer } from "@gru/shared/node";
import { bindClient, type OutgoingCall, type RpcClient } from "../rpc/bind.ts";
import { type Contract, RpcError } from "../rpc/contract.ts";
import { Dispatcher, type Service } from "../rpc/dispatch.ts";
import { type Actor, Chance, type VirtualTime } from "./sim_time.ts";

/** Between two processes, both directions. */
export class Way {
  /** Nothing passes, and nobody is told; what is sent waits. */
  blocked = false;
  /** Milliseconds. */
  slowest: number;
  readonly #chance: Chance;
  readonly #held: (() => void)[] = [];

  constructor(name: string, slowest: number) {
    this.slowest = slowest;
    this.#chance = new Chance(name);
  }

  delay(): number {
    return this.#chance.between(0.1, this.slowest);
  }

  pass(send: () => void): void {
    if (this.blocked) this.#held.push(send);
    else send();
  }

  open(): void {
    this.blocked = false;
    for (const send of this.#held.splice(0)) send();
  }
}

/** One direction of one connection: everything arrives in order, or nothing any more. */
export class Pipe {
  readonly #time: VirtualTime;
  readonly #way: Way;
  readonly #to: Actor;
  #lastAt = 0;
  #cut = false;

  constructor(time: VirtualTime, way: Way, to: Actor) {
    this.#time = time;
    this.#way = way;
    this.#to = to;
  }

  send(arrive: () => void): void {
    this.#way.pass(() => {
      if (this.#cut) return;
      this.#lastAt = Math.max(this.#lastAt, this.#time.now + this.#way.delay());
      this.#time.at(this.#lastAt, () => {
        if (!this.#cut) arrive();
      }, this.#to);
    });
  }

  /** What is sent from now on arrives so much later at the earliest. */
  lag(ms: number): void {
    this.#lastAt = Math.max(this.#lastAt, this.#time.now + ms);
  }

  /** What is under way is lost. */
  cut(): void {
    this.#cut = true;
  }
}

interface Peer {
  readonly name: string;
  readonly service: string;
  readonly actor: Actor;
  readonly dispatcher: Dispatcher;
}

/** All calls between programs. Whom a client may call is what its process sees in the registry. */
export class SimCalls {
  readonly #time: VirtualTime;
  readonly #wayOf: (a: Actor, b: Actor) => Way;
  readonly #peers = new Map<string, Peer>();
  readonly #chance: Chance;

  constructor(time: VirtualTime, seed: string, wayOf: (a: Actor, b: Actor) => Way) {
    this.#time = time;
    this.#wayOf = wayOf;
    this.#chance = new Chance(`${seed} calls`);
  }

  /** The side of one process. @param seen the instances of a service that the process knows of */
  of(actor: Actor, name: string, seen: (service: string) => readonly string[]): NodeCalls {
    return {
      connect: async <C extends Contract>(contract: C) => this.#client(contract, actor, seen),
      serve: async (services) => this.serve(actor, name, services),
    };
  }

  serve(actor: Actor, name: string, services: readonly Service[]): NodeServer {
    const dispatcher = new Dispatcher(services, { maxConcurrent: 1000, observe: () => {} });
    const [service] = services;
    const peer = { name, service: service?.contract.service ?? "", actor, dispatcher };
    this.#peers.set(name, peer);
    return {
      port: 0,
      address: `sim://${name}`,
      [Symbol.asyncDispose]: async () => {
        dispatcher.drain();
        if (this.#peers.get(name) === peer) this.#peers.delete(name);
      },
    };
  }

  #client<C extends Contract>(
    contract: C,
    from: Actor,
    seen: (service: string) => readonly string[],
  ): RpcClient<C> {
    const to = (only?: string) =>
      bindClient(contract, 5000, (call) => this.#carry(contract.service, call, from, seen, only));
    return { any: to(), at: to, [Symbol.asyncDispose]: async () => {} };
  }

  /** As the real client: another instance, or the same one again, while that does no harm. */
  async #carry(
    service: string,
    call: OutgoingCall,
    from: Actor,
    seen: (service: string) => readonly string[],
    only: string | undefined,
  ): Promise<unknown> {
    let failure = new RpcError("unavailable", `no instance of ${service} is known`);
    for (let attempt = 0; this.#time.now < call.deadline && attempt < 20; attempt++) {
      const names = seen(service).filter((name) => only === undefined || name === only);
      if (call.signal?.aborted) throw new RpcError("cancelled", "the caller has given up");
      if (names.length === 0) {
        if (only !== undefined || attempt > 10) break;
        await new Promise((resolve) => setTimeout(resolve, 200));
        continue;
      }
      try {
        return call.read(await this.#attempt(this.#chance.pick(names), call, from));
      } catch (error) {
        failure = error as RpcError;
        const { code, retryable, message } = failure;
        const isLost = code === "deadline_exceeded" || (code === "unavailable" && !retryable);
        if (isLost && !call.idempotent) throw new RpcError("unknown", message);
        if (code !== "unavailable" && code !== "overloaded") throw failure;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
    throw failure;
  }

  #attempt(name: string, call: OutgoingCall, from: Actor): Promise<string> {
    const time = this.#time;
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const peer = this.#peers.get(name);
    const deadline = setTimeout(
      () => reject(new RpcError("deadline_exceeded", `${name} did not answer in time`)),
      call.deadline - time.now,
    );
    const giveUp = () => reject(new RpcError("cancelled", "the caller has given up"));
    let isGivenUp = false;
    call.signal?.addEventListener("abort", giveUp, { once: true });
    const settled = promise.finally(() => {
      isGivenUp = true;
      clearTimeout(deadline);
      call.signal?.removeEventListener("abort", giveUp);
    });
    if (peer === undefined || peer.actor.dead) {
      setTimeout(() => reject(new RpcError("unavailable", `${name} refuses connections`)), 1);
      return settled;
    }
    const way = this.#wayOf(from, peer.actor);
    const answer = (settle: () => void) => way.pass(() => time.after(way.delay(), settle, from));
    way.pass(() =>
      time.after(way.delay(), () => {
        // What was given up before it arrived may have been taken back.
        if (isGivenUp && this.#chance.happens(0.5)) return;
        peer.dispatcher.run(peer.service, call.method, {
          started: time.now,
          timeoutMs: call.deadline - time.now,
          readInput: () => JSON.parse(call.body),
        }).then(
          (text) => answer(() => resolve(text)),
          (error) => answer(() => reject(overTheWire(error))),
        );
      }, peer.actor)
    );
    // Who dies with a call under way leaves a broken connection.
    const watch = setInterval(() => {
      if (peer.actor.dead) {
        reject(
          new RpcError("unavailable", `the connection to ${name} broke`, { retryable: false }),
        );
      }
    }, 20);
    settled.catch(() => {}).finally(() => clearInterval(watch));
    return settled;
  }
}

/** Nothing of an error but what travels. */
function overTheWire({ code, message, retryable }: RpcError): RpcError {
  return new RpcError(code, message, { retryable });
}
