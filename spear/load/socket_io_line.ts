/** A client of a spear, or of a server that knows the same events: stock socket.io over Engine.IO 4 or 3. */
import type { Line, LineOptions, LineTarget } from "./line.ts";
import { RawClient } from "./raw_client.ts";

/** Of socket.io's packet that answers an event: `3`. */
const answerType = 51;

/** The ids of the first two events of a connection. */
const authId = 0;
const subscribeId = 1;

/** Resolves when the client is authenticated, and is in the group if there is one. @throws {Error} that names user and place */
export async function openSocketIoLine(
  options: LineOptions,
  engine: "4" | "3",
): Promise<Line> {
  const { host, port, user, token, group, since } = options;
  const place = `http://${host}:${port}`;
  const entered = Promise.withResolvers<void>();
  // The connection may close before anybody waits for the answer.
  entered.promise.catch(() => {});
  let isIn = false;
  let isOver = false;
  const client = await RawClient.connect({
    ...{ host, port, localAddress: options.localAddress },
    query: `EIO=${engine}&transport=websocket`,
    pings: engine === "3",
    onBytes: (data, start, end) => {
      if (data[start] !== answerType) return options.onMessage(data, start, end);
      // `3<id>[{"success":true,…`
      const open = data.indexOf("[", start);
      const id = Number(data.toString("latin1", start + 1, open));
      const success = data.toString("latin1", open + 2, open + 16) === '"success":true';
      const text = () => data.toString("utf8", open, end);
      if (isIn) return options.onAnswer?.(id, success, text);
      if (!success) return entered.reject(new Error(`user ${user} at ${place}: ${text()}`));
      if (id !== (group === undefined ? authId : subscribeId)) return;
      isIn = true;
      if (group !== undefined) options.onJoined?.(JSON.parse(text())[0].data.positions[0]);
      entered.resolve();
    },
    onClose: () => {
      if (isIn && !isOver) options.onLost();
      entered.reject(new Error(`${place} closed the connection of user ${user}`));
    },
  });
  const login = { id: user, name: `load${user}`, appType: "load", token2: token };
  client.send(`2${authId}["auth",${JSON.stringify(login)}]`);
  if (group !== undefined) {
    const subscribe = { userId: user, subscribeGroups: [{ id: group, since }] };
    client.send(`2${subscribeId}["subscribe",${JSON.stringify(subscribe)}]`);
  }
  const close = () => {
    isOver = true;
    client.close();
  };
  try {
    await entered.promise;
  } catch (error) {
    close();
    throw error;
  }
  return { close, publish: (target, content, id) => client.send(messageOf(target, content, id)) };
}

function messageOf(target: LineTarget, content: string, id: number): string {
  const [type, to] = "user" in target ? [0, target.user] : [1, target.group];
  return `2${id}["msg",{"type":${type},"target":{"id":${to}},"content":"${content}"}]`;
}
