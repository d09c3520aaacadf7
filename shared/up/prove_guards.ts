/**
 * The guards of the code that keep its promises, and how each is taken out. A guard that is moved or changed is not found any
 * more, and the gate says so: then its line here is to be put right.
 */

export interface Guard {
  readonly name: string;
  readonly file: string;
  /** Exactly once in the file. */
  readonly from: string;
  readonly to: string;
  /** Other guards catch the same, or make it harmless: they are taken out, too. */
  readonly also?: readonly Edit[] | undefined;
  /** Why the search does not find it. The gate names it and lets it pass. */
  readonly open?: string | undefined;
}

export type Edit = Pick<Guard, "file" | "from" | "to">;

/** What Redis has come back with is not gone on with: no epoch that is over comes back. */
const countedElsewhere = {
  position: {
    file: "spear/redis/lua/position.lua",
    from: " or named == '1' and state[4] ~= name then",
    to: " then",
  },
  history: {
    file: "spear/redis/lua/history.lua",
    from: "if state[5] ~= ARGV[7] then return false end\n",
    to: "",
  },
};

const hub = [
  {
    name: "a gap in seq is read from history",
    from: "} else if (epoch === topic.epoch && seq === topic.seq + 1) {",
    to: "} else if (epoch === topic.epoch && seq > topic.seq) {",
  },
  {
    name: "an epoch that is over stays over",
    from: "this.#endedBefore(topic, topic.epoch);",
    to: "",
    also: [countedElsewhere.position, countedElsewhere.history],
  },
  {
    name: "an epoch begins at 1",
    from: "    topic.epoch = epoch;\n    topic.seq = 0;",
    to: "    topic.epoch = epoch;",
  },
  {
    name: "who is in is told what is lost",
    from: "if (entry.seq > topic.seq + 1) this.#tellMissed(topic, entry.seq - 1);",
    to: "",
  },
  {
    name: "who is in is told what is lost at the end",
    from: "        this.#tellMissed(topic, end.seq);\n",
    to: "",
  },
  {
    name: "who joins is told what is lost meanwhile",
    from: "for (const join of joining) join.lost(epoch, seq + 1, to);",
    to: "",
  },
  {
    name: "a disruption is followed by comparing",
    from: "    this.#disrupted = true;\n    if (!this.#comparingAll) void this.#compareAll();",
    to: "    this.#disrupted = true;",
  },
  {
    name: "what has come is not taken from history again",
    from: "        if (entry.seq <= topic.seq) continue;\n",
    to: "",
  },
  {
    name: "who is held counts as a member",
    from: "return held.length === 0 ? members : new WithHeld(members, held);",
    to: "return members;",
  },
  {
    name: "who leaves while it joins is gone",
    from:
      "topic.joining.find((joining) => joining.isMember && joining.member === member)?.leave();",
    to: "",
  },
  {
    name: "a target is kept while somebody joins",
    from: "if (topic.members.size > 0 || topic.joining.length > 0 || topic.watchers?.size) return;",
    to: "if (topic.members.size > 0 || topic.watchers?.size) return;",
  },
  {
    name: "a node behind a client catches up",
    from: "    if (topic.waiting === undefined) this.#startRepair(topic);\n    else {",
    to: "    if (topic.waiting === undefined) return;\n    else {",
  },
  {
    name: "what does not come by itself is read before who sent it joins",
    from:
      "      if (this.#isOpen(topic) && !this.hasPassed(target, position)) await this.#catchUp(topic);\n",
    to: "",
  },
].map((guard): Guard => ({ ...guard, file: "spear/hub/hub.ts" }));

const joining = [
  {
    name: "what comes while one joins is held",
    from: "    this.#heldLength += length;\n    this.#held.push(frame);",
    to: "    this.#heldLength += length;",
  },
  {
    name: "what has been given is not given again from what was held",
    from: "if (last >= 0 || epoch === from.epoch) return held.slice(last + 1);",
    to: "if (last >= 0 || epoch === from.epoch) return held;",
  },
  {
    name: "a page that is not whole is not called recovered",
    from: "this.recovered &&= isWhole;",
    to: "",
  },
  {
    name: "what lies beyond the target's position here comes live",
    from: "(epoch !== start.epoch || seq <= start.seq) &&",
    to: "",
  },
  {
    name: "who comes from a node that was ahead waits for this one",
    from:
      "          await this.#scene.catchUp();\n          continue;\n        }\n        this.recovered",
    to: "          continue;\n        }\n        this.recovered",
  },
  {
    name: "what history does not know the client's epoch of is not sent again",
    from: "      epoch !== this.#skipped &&",
    to: "",
  },
  {
    name: "what is not sent again is not told as lost",
    from: " && after.epoch !== this.#skipped",
    to: "",
  },
  {
    name: "a join that is given up leaves nothing behind",
    from: "if (this.#liveAt === undefined) return this.leave();",
    to: "if (this.#liveAt === undefined) return this.#end(this.#position);",
  },
].map((guard): Guard => ({ ...guard, file: "spear/hub/joining.ts" }));

const session = [
  {
    name: "a subscribe waits for the messages before it",
    from: "    await this.#sent([...wanted.keys()].map(groupTarget));\n",
    to: "",
  },
  {
    name: "an unsubscribe waits for the messages before it",
    from:
      "    await this.#sent(value.subscribeGroups.map(({ id }) => groupTarget(id)), { leaves: true });\n",
    to: "",
  },
  {
    name: "a ban is looked at after joining (user)",
    from: "      this.#node.bans.checkUser(id, admitted.issuedAt);\n",
    to: "",
  },
  {
    name: "a ban is looked at after joining (group)",
    from: "      for (const id of wanted.keys()) this.#node.bans.checkGroup(id);\n",
    to: "",
  },
  {
    name: "who has gone while it joined is no member (user)",
    from: "    if (this.#closed) return join.cancel();\n",
    to: "",
  },
  {
    name: "who has gone while it joined is no member (group)",
    from: "    if (this.#closed) return this.#giveUp(joins, wanted.keys());\n",
    to: "",
  },
  {
    name: "a place for a connection is reserved",
    from: "        place.take(claims.id);\n",
    to: "",
  },
  {
    name: "who is kicked out while it joins stays out",
    from: "const entering = joins.filter(({ join }) => !join.left);",
    to: "const entering = joins;",
  },
  {
    name: "a member is one while it reads history",
    from: "      this.#memberships.enterGroup(id);\n      join.enter();",
    to: "      this.#memberships.enterGroup(id);",
  },
].map((guard): Guard => ({ ...guard, file: "spear/session/session.ts" }));

const arrivals = [
  {
    name: "events behind an auth or a subscribe wait for it",
    from: "while (this.#barrier !== undefined) await this.#barrier;",
    to: "",
  },
  {
    name: "a doubtful message gets no answer",
    from: "if (error instanceof InDoubtError) return",
    to: "if (error instanceof InDoubtError && this.#cutOff) return",
  },
  {
    name: "what waits for an event waits until that has its answer",
    from: "    } catch (error) {\n      if (this.#client.closed || this.#cutOff) return;",
    to: '    } catch (error) {\n      if (event === "auth") {\n        release();\n' +
      "        for (let i = 0; i < 9; i++) await undefined;\n      }\n" +
      "      if (this.#client.closed || this.#cutOff) return;",
  },
].map((guard): Guard => ({ ...guard, file: "spear/session/arrivals.ts" }));

const memberships = [
  {
    name: "a user counts until its last connection (groups)",
    from: "if (other !== this.#session && other.groups.has(group)) return true;",
    to: "",
  },
  {
    name: "a user counts until its last connection (node)",
    from: "if (this.#node.hub.members(target).size === 0) this.#node.roster?.userLeft(id);",
    to: "this.#node.roster?.userLeft(id);",
  },
  {
    name: "who is gone leaves its groups",
    from: "    for (const group of [...this.groups]) this.leaveGroup(group);\n",
    to: "",
  },
  {
    name: "who is gone is no user of the node",
    from: "    if (userId !== undefined) this.leaveUser(userId);\n",
    to: "",
  },
  {
    name: "a group that is left is left in the hub",
    from: "    this.#node.hub.leave(groupTarget(group), this.#session);\n",
    to: "",
  },
].map((guard): Guard => ({ ...guard, file: "spear/session/memberships.ts" }));

const store: Guard[] = [
  {
    name: "a node's late original is refused",
    file: "spear/redis/lua/publish.lua",
    from: "if epoch and last and tonumber(ARGV[4]) <= tonumber(last) then",
    to: "if epoch and last and ARGV[5] == '1' and tonumber(ARGV[4]) <= tonumber(last) then",
  },
  {
    name: "a repetition is recognized",
    file: "spear/redis/lua/publish.lua",
    from: "if epoch and last and tonumber(ARGV[4]) <= tonumber(last) then",
    to: "if epoch and last and ARGV[5] ~= '1' and tonumber(ARGV[4]) <= tonumber(last) then",
  },
  {
    name: "a key gives the first one's answer",
    file: "spear/redis/lua/publish.lua",
    from: "  local first = redis.call('GET', KEYS[4])",
    to: "  local first = false",
  },
  {
    name: "another server begins another epoch",
    file: "spear/redis/lua/publish.lua",
    from: "elseif home ~= ARGV[7] then",
    to: "elseif false then",
  },
  {
    name: "permissions are asked for before the first write",
    file: "spear/redis/lua/publish.lua",
    from: "if refused then return refused end",
    to: "",
  },
  {
    name: "a target behind a node begins another epoch",
    file: "spear/redis/lua/position.lua",
    from: "epoch == known and seq < seen or ",
    to: "",
  },
  {
    name:
      "a target that another server has counted begins another epoch before its position is told",
    ...countedElsewhere.position,
  },
  {
    name:
      "a target that another server has counted begins another epoch before its history is read",
    ...countedElsewhere.history,
  },
  {
    name: "history begins behind the position",
    file: "spear/redis/lua/history.lua",
    from: "  first = math.max(first, after + 1)\nelseif",
    to: "  first = math.max(first, after)\nelseif",
  },
  {
    name: "a server that has started again is judged",
    file: "spear/redis/incarnation.ts",
    from: "      await compare(redis);\n",
    to: "",
  },
  {
    name: "an epoch whose beginning is lost is not gone on from",
    file: "spear/redis/store.ts",
    from: "if (found !== undefined && found !== epoch) await compare(found, largestSeq);",
    to: "",
  },
  {
    name: "what was under way when a connection broke is in doubt",
    file: "spear/redis/publisher.ts",
    from: "        pending.inDoubt = true;\n",
    to: "",
  },
  {
    name: "nothing overtakes what is in doubt",
    open: "only in a Redis Cluster is a server usable while another has not answered",
    file: "spear/redis/publisher.ts",
    from:
      "    if (queue.underWay > 0) return;\n    if (queue.pending.size === 0) return this.#close(queue);",
    to: "    if (queue.pending.size === 0) return this.#close(queue);",
  },
  {
    name: "a publication waits behind one that is held",
    open: "only in a Redis Cluster is a server usable while something is held",
    file: "spear/redis/publisher.ts",
    from: "if (!queue.held) this.#send(queue, pending);",
    to: "this.#send(queue, pending);",
  },
  {
    name: "time that is up is doubt while something is under way",
    file: "spear/redis/publisher.ts",
    from:
      "pending.underWay || pending.inDoubt ? new InDoubtError(why) : new NotAcceptedError(why),",
    to: "new NotAcceptedError(why),",
  },
  {
    name: "a new subscription is followed by comparing",
    file: "spear/redis/subscriptions.ts",
    from: "if (batches.length > 0 && !store.closed) disrupted();",
    to: "",
  },
  {
    name: "a new connection is subscribed to all that is listened to",
    file: "spear/redis/subscriptions.ts",
    from: "if (present === undefined || present === connection) continue;",
    to: "if (present === undefined || connection !== undefined) continue;",
  },
];

const sockets: Guard[] = [
  {
    name: "a message has come by before its sender leaves",
    file: "spear/session/sending.ts",
    from: "if (sending.accepted !== undefined) await hub.passed(target, sending.accepted, passMs);",
    to: "",
  },
  {
    name: "a message is counted before its sender leaves",
    file: "spear/session/sending.ts",
    from: "        await new Promise<void>((resolve) => sending.waiting.push(resolve));\n",
    to: "",
  },
  {
    name: "what a slow client does not get it is told of",
    file: "spear/socket/write_scheduler.ts",
    from: "return [...kept, ...this.#sink.missed(dropped)];",
    to: "return kept;",
  },
];

const people: Guard[] = [
  {
    name: "a node that was away enforces the bans that it missed",
    file: "spear/session/restrictions_follow.ts",
    from: "for (const ban of bans.holding()) enforce(ban, hub);",
    to: "",
  },
  {
    name: "a kick with a ban is remembered by the nodes",
    file: "spear/session/commands.ts",
    from:
      '      if (until !== undefined) bans.add({ kind: "user", id: userId, reason, until, version });\n',
    to: "",
  },
  {
    name: "all of a user's connections are kicked",
    file: "spear/session/commands.ts",
    from: "for (const session of kicked) session.kick(kickOf(reason, until));",
    to: "kicked[0]?.kick(kickOf(reason, until));",
  },
  {
    name: "a ban is kept before anyone is told",
    file: "stat/operations.ts",
    from:
      "    const { until, version } = await this.store.bans.set({ kind, id, reason, ms: banMs });\n    return { until, version };",
    to:
      "    const { until, version } = await this.store.bans.set({ kind, id, reason, ms: 1 });\n    return { until: until + banMs, version };",
  },
  {
    name: "changes follow on the version before",
    file: "stat/store_memory.ts",
    from:
      "    } else if (!follows || known.version !== version - 1) {\n      return { resync: true };\n    }",
    to: "    }",
  },
  {
    name: "a report that comes twice counts once",
    open: "what it says is the same again, and one that is older brings about a full report",
    file: "stat/store_memory.ts",
    from: "    if (follows && known.version >= version) {",
    to: "    if (follows && known.version > version + 1) {",
  },
  {
    name: "what stat lacks it gets in full",
    file: "spear/presence/reporter.ts",
    from: "    full = resync;\n",
    to: "    full = false;\n",
  },
  {
    name: "changes of a report that did not arrive go out again",
    file: "spear/presence/reporter.ts",
    from: "    if (unconfirmed === undefined) {\n      const changes",
    to: "    {\n      const changes",
    // Stat notices that a version is missing, and asks for a full report.
    also: [{
      file: "stat/store_memory.ts",
      from: "else if (!follows || known.version !== version - 1) {",
      to: "else if (!follows) {",
    }],
  },
  {
    name: "presence reports the difference to the last notification",
    file: "spear/presence/presence.ts",
    from: "  watched.lastUsers = users;\n",
    to: "  watched.lastUsers ??= users;\n",
  },
  {
    name: "a stop begins with its clients",
    file: "spear/spear.ts",
    from: "    await Promise.all([announced, empty(config.drainMs)]);\n",
    to: "    await announced;\n",
  },
  {
    name: "a node that is emptied takes nobody",
    file: "spear/spear.ts",
    from: "    gateway.refuse(reason);\n    meta",
    to: "    meta",
  },
  {
    name: "who does not move is disconnected",
    file: "spear/session/drain.ts",
    from: "if (isLast || (endMs !== undefined && endMs <= atMs)) {",
    to: "if (false) {",
  },
];

const hooks: Guard[] = [
  {
    name: "hooks: who goes leaves a mark",
    file: "stat/store_memory.ts",
    from: "        this.telling.mark(false, groupId, left);\n",
    to: "",
  },
  {
    name: "hooks: who is not in a full report any more leaves a mark",
    file: "stat/store_memory.ts",
    from: "    if (known !== undefined && known !== state) this.telling.markAll(false, known);\n",
    to: "",
  },
  {
    name: "hooks: who is there when the mark is due has not gone",
    file: "stat/hooks/telling_memory.ts",
    from: "for (const mark of marks) if (!this.#isThere(mark)) this.#went(this.#book, mark);",
    to: "for (const mark of marks) this.#went(this.#book, mark);",
  },
  {
    name: "hooks: after a loss everybody is told again",
    file: "stat/hooks/telling_memory.ts",
    from: "    for (const present of this.#present()) this.markAll(true, present);\n",
    to: "",
  },
];

export const guards: readonly Guard[] = [
  ...hub,
  ...joining,
  ...session,
  ...arrivals,
  ...memberships,
  ...store,
  ...sockets,
  ...people,
  ...hooks,
];
