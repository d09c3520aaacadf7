import { print, runProgram } from "@gru/shared/program";
import { startUp, type Up, type UpAddress, upSchema } from "./up.ts";

const purposes: Readonly<Record<UpAddress, string>> = {
  ticket: "gives tickets: here clients begin",
  spear1: "socket.io, first node",
  spear2: "socket.io, second node",
  stat: "HTTP API: who is online where",
  idgen: "message ids",
  minions: "web console",
  example: "a chat to try: open it twice",
};

function welcome({ addresses }: Up): string {
  const rows = Object.entries(purposes).map(([name, purpose]) =>
    `  ${name.padEnd(8)} ${addresses[name as UpAddress].padEnd(24)} ${purpose}`
  );
  const ticket = `${addresses.ticket}/ticket?userId=1&userName=Ann&appType=1&token1=any`;
  return ["", "Gru is up:", "", ...rows, "", `Try this: curl "${ticket}"`, "Ctrl-C stops it.", ""]
    .join("\n");
}

if (import.meta.main) {
  await runProgram({
    name: "up",
    schema: upSchema,
    profiles: new URL("./profiles/", import.meta.url),
    start: async (config) => {
      const up = await startUp(config);
      print(welcome(up));
      return up;
    },
  });
}
