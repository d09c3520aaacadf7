/** The command line of the load: its flags, what they mean, and the check of each value. */
import { parseArgs } from "node:util";
import { protocols } from "./line.ts";
import { stampLength } from "./stamp.ts";

export const scenarioNames = ["rooms", "unicast", "storm", "recovery", "idle"] as const;
export type ScenarioName = (typeof scenarioNames)[number];

interface Flag {
  readonly text: string;
  /** Empty: there is none. */
  readonly fallback: string;
  /** In place of the fallback in these scenarios. */
  readonly in?: Readonly<Partial<Record<ScenarioName, string>>>;
  readonly check: Check;
}

/** What is expected, and whether a value is that. An empty value is checked only where it is not the fallback. */
type Check = readonly [expected: string, ok: (value: string) => boolean];

const isNumber = (value: string) => value.trim() !== "" && Number(value) >= 0;
const isCount = (value: string) => /^\d+$/.test(value);
const number: Check = ["a number", isNumber];
const atLeast = (least: number): Check => [
  `a whole number of at least ${least}`,
  (value) => isCount(value) && Number(value) >= least,
];
const isAddress = (value: string) => {
  const url = URL.parse(value);
  return url?.protocol === "http:" && url.pathname === "/";
};
const oneOf = (names: readonly string[]): Check => [
  `one of ${names.join(", ")}`,
  (value) => names.includes(value),
];
const list = (of: (value: string) => boolean) => (value: string) => value.split(",").every(of);

const flags = {
  scenario: {
    text: "what to do, see above",
    fallback: "rooms",
    check: oneOf(scenarioNames),
  },
  protocol: {
    text:
      "what the clients speak: socket.io over Engine.IO 4 or 3, or centrifugo, which runs rooms, unicast, storm and idle",
    fallback: "4",
    check: oneOf(protocols),
  },
  target: {
    text: "spears, separated by commas; clients are distributed over them",
    fallback: "http://127.0.0.1:31001",
    check: ["http://host:port, or several with commas", list(isAddress)],
  },
  ticket: {
    text: "http://host:port of a ticket that chooses the spear, instead of --target",
    fallback: "",
    check: ["http://host:port", isAddress],
  },
  clients: { text: "connections that receive", fallback: "1000", check: atLeast(1) },
  groups: {
    text: "groups; each client joins one, all groups have the same size",
    fallback: "50",
    check: atLeast(1),
  },
  rate: {
    text: "messages per second, for all groups or users together",
    fallback: "100",
    check: number,
  },
  seconds: {
    text: "how long to send; in idle, how long to measure",
    fallback: "10",
    in: { idle: "60" },
    check: number,
  },
  warmup: {
    text: "seconds of the same load before, not counted; in idle, of rest before measuring",
    fallback: "2",
    in: { idle: "60", storm: "0" },
    check: number,
  },
  content: {
    text: `characters per message, at least ${stampLength}`,
    fallback: "50",
    check: atLeast(stampLength),
  },
  workers: {
    text: "processes; one holds up to about 18 000 connections and uses one core",
    fallback: "1",
    check: atLeast(1),
  },
  senders: {
    text: "connections per worker that send",
    fallback: "4",
    in: { idle: "0" },
    check: atLeast(0),
  },
  connecting: {
    text: "connections per worker that are opened at once; in storm, all",
    fallback: "100",
    in: { storm: "" },
    check: atLeast(1),
  },
  retry: {
    text: "seconds for which a client that cannot connect tries again, every second or two",
    fallback: "0",
    in: { storm: "60", recovery: "60" },
    check: number,
  },
  away: {
    text: "in recovery: seconds between the cut and the return",
    fallback: "0",
    check: number,
  },
  sources: {
    text:
      "local addresses, separated by commas, each with ports for 28 000 connections; default: the system's",
    fallback: "",
    check: ["addresses separated by commas", list((one) => /^[\d.]+$|^[\da-f:]+$/i.test(one))],
  },
  "first-user": { text: "the number of the first user", fallback: "1000000", check: atLeast(1) },
  core: {
    text: "run the workers on this core (Linux, taskset)",
    fallback: "",
    check: atLeast(0),
  },
  pid: {
    text:
      "in idle: the processes of the servers, separated by commas; default: found for targets on this machine (Linux, ss)",
    fallback: "",
    check: ["process ids separated by commas", list((one) => isCount(one) && Number(one) > 0)],
  },
} as const satisfies Record<string, Flag>;

export type FlagName = keyof typeof flags;

const switches = {
  track:
    "in rooms: follow each message to each client: prints what was sent, accepted, refused, delivered, lost, doubled, inverted (late), untold (a gap without a word) and missed (a gap that was told), and the longest silence of any client; ends with 1 when a message is lost, doubled, inverted, untold or refused. The clients are those of @gru/client, come by --ticket, and send themselves; --target, --warmup, --senders, --sources, --retry and --protocol do nothing",
  json:
    "print one JSON document: options, machine, connecting, result. Progress goes to standard error",
  help: "print this",
} as const;

/** What was asked for. The texts are checked. */
export interface Asked {
  readonly scenario: ScenarioName;
  readonly track: boolean;
  readonly json: boolean;
  readonly help: boolean;
  /** Empty where there is neither a value nor a default. */
  text(flag: FlagName): string;
  number(flag: FlagName): number;
  /** Every flag that has a value here, for a document of results: numbers as numbers. */
  readonly options: Readonly<Record<string, string | number>>;
}

/** @throws {TypeError} that names the flag and the value */
export function readFlags(args: string[]): Asked {
  const text = { type: "string" } as const;
  const toggle = { type: "boolean" } as const;
  const { values }: { values: Record<string, string | boolean | undefined> } = parseArgs({
    args,
    options: {
      ...Object.fromEntries(Object.keys(flags).map((name) => [name, text])),
      ...Object.fromEntries(Object.keys(switches).map((name) => [name, toggle])),
    },
  });
  for (const [name, { check: [expected, isRight], fallback }] of Object.entries<Flag>(flags)) {
    const value = values[name];
    if (typeof value !== "string" || (value === "" && fallback === "")) continue;
    if (!isRight(value)) {
      throw new TypeError(`--${name}: expected ${expected}, got ${value === "" ? "none" : value}`);
    }
  }
  const scenario = (values.scenario ?? flags.scenario.fallback) as ScenarioName;
  const asked: Asked = {
    scenario,
    track: values.track === true,
    json: values.json === true,
    help: values.help === true,
    text(name) {
      const flag: Flag = flags[name];
      return String(values[name] ?? flag.in?.[scenario] ?? flag.fallback);
    },
    number: (name) => Number(asked.text(name)),
    get options() {
      const names = Object.keys(flags) as FlagName[];
      return Object.fromEntries(
        names.map((name) => [name, asked.text(name)] as const).filter(([, value]) => value !== "")
          .map(([name, value]) => [name, isNumber(value) ? Number(value) : value]),
      );
    },
  };
  if (!asked.help) checkTogether(asked);
  return asked;
}

/** What one flag says about another. */
function checkTogether({ scenario, track, text, number }: Asked): void {
  const protocol = text("protocol");
  if (track && scenario !== "rooms") {
    throw new TypeError(`--scenario: expected rooms with --track, got ${scenario}`);
  }
  if (track && text("ticket") === "") {
    throw new TypeError("--ticket: expected the address of a ticket with --track, got none");
  }
  if ((track || scenario === "recovery") && number("workers") > number("groups")) {
    throw new TypeError(
      `--workers: expected at most as many as --groups (${
        text("groups")
      }) where messages are followed, got ${text("workers")}`,
    );
  }
  if (scenario !== "idle" && !track && number("senders") < 1 && number("rate") > 0) {
    throw new TypeError(`--senders: expected at least 1 in ${scenario}, got ${text("senders")}`);
  }
  if (scenario === "recovery" && protocol === "centrifugo") {
    throw new TypeError("--protocol: expected 4 or 3 in recovery, got centrifugo");
  }
  if (protocol === "centrifugo" && text("ticket") !== "") {
    throw new TypeError("--ticket: expected none with --protocol centrifugo, got a value");
  }
}

/** @param scenarios what each does */
export function help(scenarios: Readonly<Record<ScenarioName, string>>): string {
  const row = (name: string, text: string) => folded(`  --${name.padEnd(12)} `, text);
  return [
    "Connects clients to spears whose auth.scheme is open, and measures. Scenarios:",
    "",
    ...Object.entries(scenarios).map(([name, text]) => folded(`  ${name.padEnd(14)} `, text)),
    "",
    "Flags:",
    "",
    ...Object.entries<Flag>(flags).map(([name, flag]) => {
      const others = Object.entries(flag.in ?? {}).filter(([, value]) => value !== "")
        .map(([scenario, value]) => `; ${scenario}: ${value}`).join("");
      return row(name, flag.text + (flag.fallback === "" ? "" : ` [${flag.fallback}${others}]`));
    }),
    ...Object.entries(switches).map(([name, text]) => row(name, text)),
  ].join("\n");
}

/** Lines of at most 120 characters, those after the first indented as the first is. */
function folded(first: string, text: string): string {
  const lines = [first.trimEnd()];
  for (const word of text.split(" ")) {
    const last = lines.at(-1) ?? "";
    const room = last === first.trimEnd() ? first : `${last} `;
    if (room.length + word.length <= 120) lines[lines.length - 1] = room + word;
    else lines.push(" ".repeat(first.length) + word);
  }
  return lines.join("\n");
}
