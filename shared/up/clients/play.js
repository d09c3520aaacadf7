/**
 * What an application does with a stock client in JavaScript, in a page or under Node: as old as the oldest of them.
 * `say` is given what happens, each time as `{ via, at, ... }`. @returns what sends a text, by transport
 */
// deno-lint-ignore no-unused-vars -- a page loads it as a script, Node evaluates it
function play(io, address, group, users, say) {
  const ways = {
    websocket: ["websocket"],
    polling: ["polling"],
    upgrade: ["polling", "websocket"],
  };
  const sockets = {};
  Object.keys(ways).forEach((via) => {
    const user = users[via];
    const socket = sockets[via] = io(address, {
      transports: ways[via],
      forceNew: true,
      reconnectionDelay: 100,
      reconnectionDelayMax: 500,
    });
    socket.on("connect", () => {
      socket.emit(
        "auth",
        { id: user, name: "n", appType: "1", token1: "x", token2: "y" },
        (result) => {
          if (!result.success) return say({ via, at: "refused", text: result.msg });
          const groups = { userId: user, subscribeGroups: [{ id: group }] };
          socket.emit("subscribe", groups, (result) => say({ via, at: "in", text: result.msg }));
        },
      );
    });
    socket.on("msg", (message) => say({ via, at: "msg", text: message.content }));
    socket.on(
      "error",
      (error) => say({ via, at: "error", text: String(error && error.message || error) }),
    );
    socket.on("disconnect", (reason) => say({ via, at: "out", text: String(reason) }));
  });
  return (via, text) => {
    const message = { type: 1, target: { id: group }, content: text };
    sockets[via].emit("msg", message, (result) => say({ via, at: "sent", text: result.msg }));
  };
}
