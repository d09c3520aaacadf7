/**
 * Writes what an image starts: `gru <program> …` runs a program with the permissions of its task, without a shell or a task runner
 * between it and the signals; `gru-healthy` asks whether it is alive. The argument is the folder to write to.
 */
import { join } from "node:path";

const [folder = "."] = Deno.args;
const { tasks } = JSON.parse(Deno.readTextFileSync("deno.json")) as {
  tasks: Readonly<Record<string, string>>;
};
const programs = ["ticket", "spear", "stat", "idgen", "minions"];
const cases = programs.map((program) => `  ${program}) shift; exec env ${tasks[program]} "$@" ;;`);

const gru = `#!/bin/sh
case "$1" in
${cases.join("\n")}
  *) echo "gru: expected ${programs.join(", ")}, got $1" >&2; exit 2 ;;
esac
`;

/** The ports that the programs have by default; a container has one of them. */
const ports = [30_000, 31_002, 32_000, 33_000, 40_000];
const healthy = `#!/bin/bash
# Whether the program in this container answers. With another port than by default: GRU_HEALTH_PORT.
for port in \${GRU_HEALTH_PORT:-${ports.join(" ")}}; do
  if exec 3<>"/dev/tcp/127.0.0.1/$port"; then
    printf 'GET /healthz HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3
    read -r status <&3
    [[ $status == *" 200"* ]]
    exit
  fi
done 2>/dev/null
exit 1
`;

Deno.mkdirSync(folder, { recursive: true });
for (const [name, text] of [["gru", gru], ["gru-healthy", healthy]] as const) {
  Deno.writeTextFileSync(join(folder, name), text, { mode: 0o755 });
}
