/** What attackers do with their connections, by kind. For tests. */
import { Buffer } from "node:buffer";
import { issuer } from "@gru/ticket/token";
import {
  dial,
  type Endpoint,
  type Form,
  frame,
  get,
  Line,
  postOf,
  upgradeTo,
} from "./attack_line.ts";

/** One of the attackers, for as long as the attack lasts. */
export interface Attacker {
  readonly endpoint: Endpoint;
  readonly form: Form;
  readonly index: number;
  /** Two accounts are all that they have, for up to 100 connections each. */
  readonly userId: number;
  /** As ticket gives it. */
  readonly token2: () => Promise<string>;
  /** A `resume` of a user who was kicked afterwards. */
  readonly stolen: { readonly userId: number; readonly resume: string };
  readonly over: () => boolean;
  readonly counts: AttackCounts;
}

export interface AttackCounts {
  /** Connections that were let in. */
  opened: number;
  /** Of these, how many the spear ended. */
  ended: number;
  sentBytes: number;
  /** What must never happen, by what it is. */
  readonly wrong: string[];
}

export type Attack = (attacker: Attacker) => Promise<void>;

export const group = { honest: 1, everybody: 1000, attacked: 2000, full: 3000 } as const;

/** Packets again and again, as fast as they are taken, on a new connection when one is ended. */
function flood(packets: (attacker: Attacker) => readonly string[], first?: typeof packets): Attack {
  return (attacker) =>
    repeated(attacker, async (line) => {
      if (first !== undefined && !await send(attacker, line, line.batch(first(attacker)))) return;
      const bytes = line.batch(packets(attacker));
      while (!attacker.over() && await send(attacker, line, bytes));
    });
}

async function send(attacker: Attacker, line: Line, bytes: Buffer): Promise<boolean> {
  attacker.counts.sentBytes += bytes.length;
  return await line.send(bytes);
}

/** Enters again and again, as its form says, and does something with each connection. */
async function repeated(
  attacker: Attacker,
  act: (line: Line) => Promise<void>,
): Promise<void> {
  const { endpoint, form, userId, counts } = attacker;
  while (!attacker.over()) {
    using line = await Line.open(endpoint, form);
    if (line === undefined) {
      await pause(50);
      continue;
    }
    counts.opened++;
    if (form.known) await line.enter(userId, await attacker.token2());
    line.settle(attacker.index % 2 === 0);
    await act(line);
    if (line.ended) counts.ended++;
  }
}

const many = (n: number, packet: (i: number) => string) =>
  Array.from({ length: n }, (_, i) => packet(i));
const event = (name: string, argument: unknown) => `42${JSON.stringify([name, argument])}`;
const groups = (n: number) => Array.from({ length: n }, (_, i) => ({ id: 10_000 + i }));
const deep = (depth: number) => "[".repeat(depth) + "]".repeat(depth);

/** Rawer than a {@linkcode Line}: bytes on a socket of its own, again and again. */
function raw(
  act: (attacker: Attacker, write: (bytes: string | Buffer) => void) => Promise<void>,
): Attack {
  return async (attacker) => {
    while (!attacker.over()) {
      const socket = await dial(attacker.endpoint);
      if (socket === undefined) {
        await pause(50);
        continue;
      }
      attacker.counts.opened++;
      if (attacker.form.reads) socket.resume();
      await act(attacker, (bytes) => {
        attacker.counts.sentBytes += bytes.length;
        socket.write(bytes);
      });
      if (socket.destroyed) attacker.counts.ended++;
      socket.destroy();
    }
  };
}

const query = ({ transport, engine }: Form) => `/socket.io/?EIO=${engine}&transport=${transport}`;

export const attacks: Readonly<Record<string, Attack>> = {
  "storms of CONNECT and DISCONNECT": flood(() => many(5000, (i) => i % 5 === 4 ? "41" : "40")),
  "handshakes without auth, and upgrades half done": raw(
    async ({ form, index, endpoint }, write) => {
      if (form.transport === "websocket") write(upgradeTo(query(form)));
      else if (index % 4 > 0) write(get(query(form)));
      else {
        using line = await Line.open(endpoint, form);
        const upgrading = await dial(endpoint);
        const upgrade = upgradeTo((line?.query ?? "").replace("polling", "websocket"));
        upgrading?.write(Buffer.concat([Buffer.from(upgrade), frame("2probe")]));
        await pause(20);
        upgrading?.destroy();
      }
      await pause(5);
    },
  ),
  "pings of WebSocket and Engine.IO that are not read": async (attacker) => {
    const { form } = attacker;
    if (form.transport === "polling") {
      return await flood(() => many(2000, () => "2probe"))(attacker);
    }
    const pings = Buffer.concat(many(200, () => "x".repeat(125)).map((text) => frame(text, 0x89)));
    const engines = Buffer.concat(many(2000, () => "2probe").map((text) => frame(text)));
    await repeated(attacker, async (line) => {
      while (!attacker.over() && await send(attacker, line, form.engine === 3 ? engines : pings));
    });
  },
  "answers that are not read": flood(({ form }) =>
    many(50, (i) => form.known ? event("n".repeat(60), i) : `40/${"n".repeat(1000)},{}`)
  ),
  "online of a large group": flood(
    () => many(200, () => event("online", group.everybody)),
    ({ userId }) => [event("subscribe", { userId, subscribeGroups: [{ id: group.everybody }] })],
  ),
  "joining and leaving 1000 groups": flood(({ userId }) =>
    ["subscribe", "unsubscribe"].map((name) =>
      event(name, { userId, subscribeGroups: groups(1000) })
    )
  ),
  "huge lists and deep JSON": flood(({ userId, index }) =>
    [
      event("subscribe", { userId, subscribeGroups: groups(6000) }),
      `42["msg",${deep(40_000)}]`,
      event("subscribe", `{"userId":${userId},"subscribeGroups":[${"1,".repeat(40_000)}1]}`),
      `42["auth",${JSON.stringify({ id: userId, token2: "x".repeat(90_000) })}]`,
    ].slice(index % 4).slice(0, 1)
  ),
  "events that there are not": flood(() => many(300, (i) => event(`nonsense${i % 7}`, { i }))),
  "acknowledgements that nobody asked for": flood(() => many(2000, (i) => `43${i}[]`)),
  "recovery of a full target again and again": flood(({ userId }) =>
    many(4, () =>
      event("subscribe", {
        userId,
        subscribeGroups: [{ id: group.full, since: { epoch: "x", seq: 0 } }],
      }))
  ),
  "messages to one target": flood(
    () =>
      many(100, (i) => event("msg", { type: 1, target: { id: group.attacked }, content: `${i}` })),
    ({ userId }) => [event("subscribe", { userId, subscribeGroups: [{ id: group.attacked }] })],
  ),
  "packets that are too large": flood(() => [event("msg", "x".repeat(400_000))]),
  "slow bodies and slow frames": raw(async ({ form, over }, write) => {
    write(
      form.transport === "polling"
        ? form.known
          ? postOf(query(form), "x".repeat(4000)).subarray(0, -3990)
          : get(query(form)).slice(0, 40)
        : upgradeTo(query(form)),
    );
    await pause(200);
    if (form.transport === "websocket") write(frame("x".repeat(90_000)).subarray(0, 80_000));
    for (let drop = 0; drop < 40 && !over(); drop++) {
      await pause(100);
      write("x");
    }
  }),
  "a stolen resume after a kick": async (attacker) => {
    const { endpoint, stolen, counts } = attacker;
    while (!attacker.over()) {
      using line = await Line.open(endpoint, { ...attacker.form, reads: true });
      if (line === undefined) await pause(50);
      else {
        counts.opened++;
        const answer = await line.enter(stolen.userId, stolen.resume);
        if (answer?.includes('"success":true')) counts.wrong.push(answer);
        if (line.ended) counts.ended++;
      }
    }
  },
};

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Signs as ticket does, for `spear1`. */
export function tokens(token2Secret: string): (userId: number) => Promise<string> {
  const desk = issuer({
    scheme: "jwt",
    token1: { secret: "a-secret-that-nobody-uses-for-anything", skewMs: 0 },
    token2Secret,
    token2Ms: 60_000,
    rightsMs: 3_600_000,
  });
  const rights = { listen: ["*"], send: ["*"], users: ["*"] };
  return async (userId) => {
    const rightsUntil = Date.now() + 3_600_000;
    const grant = { userId: `${userId}`, userName: "", appType: "", rights, rightsUntil };
    return (await desk.issue(grant, "", ["spear1"])).token;
  };
}
