/** What may happen in a history of a simulated cluster, and how one is drawn from a seed. */
import type { SimClient } from "./sim_client.ts";
import type { Settings, SimCluster, SimNode } from "./sim_cluster.ts";
import type { TransportKind } from "./sim_link.ts";
import { sessionMs } from "./sim_registry.ts";
import { Chance } from "./sim_time.ts";

/** Something that happens `after` milliseconds. What it is done to is counted round: any number means somebody. */
export interface Step {
  readonly after: number;
  readonly do: keyof typeof steps;
  readonly who: number;
  readonly which: number;
  /** How much, how long: from 0 to 1. */
  readonly size: number;
}

export interface History {
  readonly seed: string;
  /** Of all clients; by default each has its own. */
  readonly transport?: TransportKind | undefined;
  readonly steps: readonly Step[];
}

/** Where it is played. */
export interface Stage {
  readonly cluster: SimCluster;
  readonly settings: Settings;
  client(which: number): SimClient;
  node(which: number): SimNode;
  group(which: number): string;
  target(which: number): string;
  /** Not later than the end of the history. */
  later(ms: number, end: () => void): void;
  /** As soon as it is so, and not at all where it is not within two seconds. */
  when(isSo: () => boolean, then: () => void): void;
  restart(node: SimNode): void;
  block(way: { blocked: boolean; open(): void }, ms: number, end?: () => void): void;
  lag(node: SimNode, kind: "subscriber" | "commands" | "requests", ms: number): void;
  /** @param kind how the names of the connections end */
  cutRedis(node: SimNode, kind: string): void;
  /** @param lostMs so much of what it had written last is gone */
  restartRedis(size: number, lostMs: number): void;
  /** @param lostMs so much of what stat's store had written last is gone */
  statLoses(lostMs: number): void;
  publish(which: number): void;
  kick(client: SimClient, size: number): void;
  kickGroup(group: string, client: SimClient, size: number): void;
  drain(node: SimNode, size: number): void;
}

export interface Kind {
  /** How often, beside the others. */
  readonly weight: number;
  readonly run: (play: Stage, step: Step) => void;
}

export const steps = {
  say: {
    weight: 30,
    run: (play, { who, which, size }) => {
      play.client(who).say(play.target(which), size > 0.9 ? 1500 : 0);
    },
  },
  burst: {
    weight: 6,
    run: (play, { who, which, size }) => {
      for (let i = 0; i < 2 + 10 * size; i++) {
        play.client(who).say(play.target(which), size > 0.7 ? 600 : 0);
      }
    },
  },
  publish: { weight: 5, run: (play, { which }) => play.publish(which) },
  subscribe: {
    weight: 8,
    run: (play, { who, which, size }) =>
      play.client(who).subscribe(play.group(which), {
        since: size > 0.3,
        presence: size > 0.8,
        all: who % 3 === 0,
      }),
  },
  unsubscribe: {
    weight: 3,
    run: (play, { who, which }) => play.client(who).unsubscribe(play.group(which)),
  },
  sayAndSubscribe: {
    weight: 2,
    run: (play, { who, which }) => play.client(who).sayAndSubscribe(play.group(which)),
  },
  sayAndUnsubscribe: {
    weight: 2,
    run: (play, { who, which }) => play.client(who).sayAndUnsubscribe(play.group(which)),
  },
  /** It joins once more, or for the first time, slowly; and something happens to it meanwhile. */
  troubleWhileJoining: {
    weight: 4,
    run: (play, { who, which, size }) => {
      const client = play.client(who);
      const node = play.cluster.node(client.node);
      if (node === undefined) return;
      play.lag(node, "commands", 400);
      play.lag(node, "subscriber", 400);
      if (which % 3 === 0) client.authenticateAgain();
      else if (which % 3 === 1) {
        client.subscribe(play.group(which), { since: true, presence: false, all: true });
      } else client.cut();
      play.later((which % 3 === 2 ? 150 : 5) + size * 290, () => {
        const trouble = (who + which) % 6;
        if (trouble < 2) play.kick(client, trouble);
        else if (trouble === 2) play.kickGroup(play.group(which), client, 0.5);
        else if (trouble === 3) play.kickGroup(play.group(which + 1), client, 1);
        else if (trouble === 4) client.cut();
        else {
          play.cutRedis(node, "subscriber");
          for (let i = 0; i < 3; i++) play.client(who + 1).say(play.target(which), 0);
        }
      });
    },
  },
  /** What it says before it joins comes late to its node. */
  joinBehindItself: {
    weight: 2,
    run: (play, { who, which, size }) => {
      const client = play.client(who);
      const group = play.group(which);
      client.unsubscribe(group);
      play.later(300, () => {
        const node = play.cluster.node(client.node);
        if (node === undefined) return;
        play.lag(node, "subscriber", 1200 + 1500 * size);
        client.sayAndSubscribe(group);
      });
    },
  },
  /** It joins once more while it has not read what has come, and is taken out before its node has read that for it. */
  kickWhileRejoining: {
    weight: 2,
    run: (play, { who, which, size }) => {
      const client = play.client(who);
      const node = play.cluster.node(client.node);
      if (node === undefined) return;
      const [group, other] = [play.group(which), play.group(which + 1)];
      // Where nobody else here is in it, it is opened once more, and all groups wait for that.
      if (other !== group) client.unsubscribe(other);
      client.stall();
      for (let i = 0; i < 3; i++) play.client(who + 1).say(`g:${group}`, 0);
      play.later(250, () => {
        play.lag(node, "commands", 500);
        play.lag(node, "subscriber", 500);
        client.subscribe(group, { since: true, presence: false });
        client.subscribe(other, { since: true, presence: false, all: true });
      });
      play.later(330 + 200 * size, () => play.kickGroup(group, client, which % 2 === 0 ? 1 : 0));
      play.later(1000, () => client.resume());
    },
  },
  /** It reads slowly what it missed of one group, while messages of another are lost to its node. */
  lossWhileRecovering: {
    weight: 2,
    run: (play, { who, which, size }) => {
      const client = play.client(who);
      const [slow, other] = [play.group(which), play.group(which + 1)];
      for (const group of [slow, other]) client.groups.add(group);
      client.cut();
      for (let i = 0; i < 15; i++) play.client(who + 1).say(`g:${slow}`, 1500);
      const isJoining = () =>
        [slow, other].every((group) => client.tracks.get(`g:${group}`)?.phase === "joining");
      play.when(isJoining, () => {
        client.stall();
        const node = play.cluster.node(client.node);
        if (node === undefined) return;
        play.later(150, () => {
          play.block(node.toRedis, 1200 + 1200 * size);
          play.cutRedis(node, "subscriber");
          for (let i = 0; i < 8; i++) play.client(who + 1 + i % 3).say(`g:${other}`, 0);
        });
        play.later(3500, () => client.resume());
      });
    },
  },
  /** It goes to a node that has not heard yet what it has seen. */
  moveWhileBehind: {
    weight: 3,
    run: (play, { who, which, size }) => {
      const node = play.node(which);
      play.lag(node, "subscriber", 200 + size * 1500);
      play.client(who + 1).say(play.target(who), 0);
      play.later(20 + 200 * size, () => play.client(who).moveTo(node.name));
    },
  },
  /** It does not read while a lot comes. */
  flood: {
    weight: 2,
    run: (play, { who, which, size }) => {
      const client = play.client(who);
      client.stall();
      const group = `g:${play.group(which)}`;
      for (let i = 0; i < 25; i++) play.client(who + 1).say(group, 1500);
      play.later(100 + size * 2000, () => client.resume());
    },
  },
  authenticateAgain: { weight: 3, run: (play, { who }) => play.client(who).authenticateAgain() },
  cut: { weight: 5, run: (play, { who }) => play.client(who).cut() },
  vanish: { weight: 1, run: (play, { who }) => play.client(who).vanish() },
  move: {
    weight: 4,
    run: (play, { who, which }) => play.client(who).moveTo(play.node(which).name),
  },
  stall: {
    weight: 2,
    run: (play, { who, size }) => {
      const client = play.client(who);
      client.stall();
      play.later(size * 3000, () => client.resume());
    },
  },
  kick: { weight: 2, run: (play, { who, size }) => play.kick(play.client(who), size) },
  kickGroup: {
    weight: 2,
    run: (play, { who, which, size }) => play.kickGroup(play.group(which), play.client(who), size),
  },
  /** Its node hears of it late, or not at all. */
  banWhileAway: {
    weight: 2,
    run: (play, { who, which, size }) => {
      const client = play.client(who);
      const node = play.cluster.node(client.node);
      if (node === undefined) return;
      play.block(node.toStat, 2500 + 2000 * size, play.cluster.disturb());
      play.later(50, () => {
        if (which % 2 === 0) play.kick(client, 1);
        else play.kickGroup(play.group(which), client, 0.5);
      });
    },
  },
  crash: {
    weight: 1,
    run: (play, { who, size }) => {
      const node = play.node(who);
      const { actor } = node;
      // Until its session in the registry has ended, also where the history ends before that, and it runs again.
      const end = play.cluster.disturb();
      node.crash();
      play.later(500 + size * 4000, () => {
        if (node.actor === actor) play.restart(node);
        play.cluster.time.after(sessionMs + 500, end);
      });
    },
  },
  freeze: {
    weight: 1,
    run: (play, { who, size }) => {
      const { actor } = play.node(who);
      const end = play.cluster.disturb();
      actor.frozen = true;
      play.later(size * 6000, () => {
        play.cluster.time.thaw(actor);
        end();
      });
    },
  },
  stop: {
    weight: 1,
    run: (play, { who, size }) => {
      const node = play.node(who);
      void node.stop();
      play.later(play.settings.drainMs + 2500 + size * 3000, () => play.restart(node));
    },
  },
  drain: { weight: 1, run: (play, { who, size }) => play.drain(play.node(who), size) },
  redisHangs: {
    weight: 1,
    run: (play, { size }) => {
      const { actor } = play.cluster.redis;
      actor.frozen = true;
      play.later(size * 5000, () => play.cluster.time.thaw(actor));
    },
  },
  redisCuts: { weight: 2, run: (play) => play.cluster.redis.cutAll() },
  redisCutsOne: {
    weight: 3,
    run: (play, { who }) => play.cutRedis(play.node(who), ""),
  },
  subscriberLags: {
    weight: 2,
    run: (play, { who, size }) => play.lag(play.node(who), "subscriber", size * 1500),
  },
  commandsLag: {
    weight: 1,
    run: (play, { who, size }) => play.lag(play.node(who), "commands", size * 1500),
  },
  /** What was sent last arrives when its sender has given it up. */
  requestsLag: {
    weight: 1,
    run: (play, { who, size }) => play.lag(play.node(who), "requests", 2500 + size * 3000),
  },
  redisRestarts: { weight: 1, run: (play, { size }) => play.restartRedis(size, 0) },
  redisLosesTail: {
    weight: 1,
    run: (play, { size, which }) => play.restartRedis(size, 50 + which * 150),
  },
  /** What it has begun after the first start is lost with the second. */
  redisLosesTwice: {
    weight: 1,
    run: (play, { who, which, size }) => {
      const client = play.client(who);
      // Some pages that stay.
      for (let i = 0; i < which; i++) play.client(who + 1).say(play.target(which), 1500);
      play.later(250, () => {
        play.restartRedis(0.05, which % 3 * 50);
        const lostMs = 500 + 1500 * size;
        play.later(200, () => play.client(who + 1).say(play.target(which), 0));
        play.later(lostMs, () => {
          play.restartRedis(size / 5, lostMs - 50);
          client.cut();
        });
      });
    },
  },
  statLosesTail: {
    weight: 2,
    run: (play, { which, size }) => play.statLoses(which % 4 === 3 ? Infinity : 3000 * size),
  },
  redisRefuses: {
    weight: 1,
    run: (play, { which, size }) => {
      const { server } = play.cluster.redis;
      const name =
        ["publish", "xadd", "evalsha", "hset", "set", "pexpire", "full", "full"][which % 8];
      if (name === "full") server.full = "OOM command not allowed when used memory > 'maxmemory'.";
      else if (name !== undefined) server.forbidden.add(name);
      play.later(size * 2000, () => {
        server.forbidden.clear();
        server.full = undefined;
      });
    },
  },
  splitRedis: {
    weight: 2,
    run: (play, { who, size }) => play.block(play.node(who).toRedis, size * 5000),
  },
  splitRegistry: {
    weight: 1,
    run: (play, { who, size }) => {
      play.block(play.node(who).toRegistry, size * 5000, play.cluster.disturb());
    },
  },
  splitStat: {
    weight: 1,
    run: (play, { who, size }) => {
      play.block(play.node(who).toStat, size * 4000, play.cluster.disturb());
    },
  },
} as const satisfies Record<string, Kind>;

const names = Object.keys(steps) as Step["do"][];
/** Many times as often as they are meant to be. */
const common = names.filter((name) => steps[name].weight >= 5)
  .flatMap((name) => Array.from({ length: steps[name].weight }, () => name));
const rare = names.filter((name) => steps[name].weight < 5)
  .flatMap((name) => Array.from({ length: steps[name].weight }, () => name));

export interface Cast extends Settings {
  readonly clients: number;
  readonly groups: number;
  /** All clients are one user; else only two are. */
  readonly isCrowd: boolean;
}

export function settingsOf(seed: string): Cast {
  const chance = new Chance(`${seed} settings`);
  return {
    nodes: chance.pick([1, 2, 2, 3]),
    clients: 2 + chance.below(4),
    groups: 1 + chance.below(2),
    historySize: chance.pick([0, 5, 100, 100, 100]),
    historyMs: chance.pick([1500, 300_000, 300_000, 300_000]),
    identity: chance.pick(["aof", "process"]),
    slowConsumer: chance.pick(["disconnect", "disconnect", "skip"]),
    connectionsPerUser: chance.pick([2, 100, 100]),
    isCrowd: chance.happens(0.1),
    publishMs: chance.pick([1000, 3000, 8000]),
    drainMs: chance.pick([500, 2000, 5000]),
    insideMs: chance.pick([1, 3, 10]),
    outsideMs: chance.pick([2, 10, 60]),
  };
}

export function draw(seed: string, transport?: TransportKind): History {
  const chance = new Chance(`${seed} steps`);
  const count = 5 + chance.below(40);
  // Faults of one history are few kinds, so that they meet.
  const faults = Array.from({ length: 1 + chance.below(4) }, () => chance.pick(rare));
  const kinds = [...common, ...faults.flatMap((fault) => Array.from({ length: 5 }, () => fault))];
  return {
    seed,
    transport,
    steps: Array.from({ length: count }, () => {
      const pace = chance.next();
      return {
        after: Math.round(
          pace < 0.5
            ? chance.between(0, 4)
            : pace < 0.85
            ? chance.between(4, 300)
            : chance.between(300, 2500),
        ),
        do: chance.pick(kinds),
        who: chance.below(12),
        which: chance.below(12),
        size: Math.round(chance.next() * 100) / 100,
      };
    }),
  };
}
