/** systemd's side is a datagram socket of python, because that is what a real one is: not Deno. */
import assert from "node:assert/strict";
import {
  projectRoot,
  ServerProcess,
  serverTest,
  taskArguments,
  waitFor,
} from "./testing/harness.ts";

const listener = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("listening", flush=True)
while True: print(s.recv(4096).decode().replace("\\n", " "), flush=True)
`;

serverTest({
  name:
    "a program tells systemd that it is up, that it is alive as long as its event loop runs, and that it stops",
  needs: "python3",
  fn: async () => {
    const directory = await Deno.makeTempDir();
    try {
      const path = `${directory}/notify`;
      await using systemd = new ServerProcess("python3", { args: ["-c", listener, path] });
      await waitFor(() => systemd.output.includes("listening"));
      const [run = "run", ...others] = taskArguments("ticket");
      await using ticket = new ServerProcess(Deno.execPath(), {
        args: [
          ...[run, `--allow-write=${directory}`],
          ...others.map((word) => word.startsWith("--allow-read=") ? `${word},${directory}` : word),
          ...["--profile", "dev", "--port=0", "--registry=memory:"],
        ],
        cwd: projectRoot,
        env: { NOTIFY_SOCKET: path, WATCHDOG_USEC: "600000", RUNTIME_DIRECTORY: directory },
      });
      const alive = () => systemd.output.split("WATCHDOG=1").length;
      await waitFor(() => systemd.output.includes("READY=1 STATUS=ready"), { what: "it is up" });
      await waitFor(() => alive() > 3, { what: "it is alive" });
      assert.deepEqual([...Deno.readDirSync(directory)].map(({ name }) => name), ["notify"]);

      // Its event loop stands still: what was on its way arrives, and then nothing.
      ticket.freeze();
      for (let before = -1; before !== alive();) {
        before = alive();
        await new Promise((resolve) => setTimeout(resolve, 500));
      }
      const before = alive();
      ticket.thaw();
      await waitFor(() => alive() > before, { what: "it is alive again" });
      await ticket.kill("SIGTERM");
      await waitFor(() => systemd.output.includes("STOPPING=1"), { what: "it stops" });
      assert.equal((await ticket.ended).code, 0);
      assert.doesNotMatch(ticket.output, /systemd/);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
});
