/** The samples name only what there is: programs, flags, values, variables, ports; and an image's launchers do what they say. */
import assert from "node:assert/strict";
import { loadConfig } from "@gru/shared/config";
import { freePort, projectRoot, slowTest } from "@gru/shared/testing/harness";
import { parse, parseAllDocuments } from "yaml";
import { programs } from "../up/programs.ts";

const read = (name: string) => Deno.readTextFileSync(new URL(name, import.meta.url));
const { tasks } = JSON.parse(Deno.readTextFileSync(`${projectRoot}/deno.json`));

const secrets: Record<string, string> = {
  GRU_CLUSTER_KEY: "a cluster key of 32 characters !",
  GRU_ZOOKEEPER_CREDENTIALS: "gru:a password of 32 characters !!!",
  GRU_TOKEN1_PUBLIC_KEY: [
    "-----BEGIN PUBLIC KEY-----",
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9",
    "q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==",
    "-----END PUBLIC KEY-----",
    "",
  ].join("\\n"),
  GRU_TOKEN2_SECRET: "a token2 secret of 32 characters",
  GRU_REDIS_PASSWORD: "a redis password of 32 characters",
  GRU_STAT_API_KEY: "an api key of 32 characters, too!",
  GRU_MINIONS_PASSWORD: "a password to act, 32 characters",
  GRU_MINIONS_LOOK_PASSWORD: "a password to look, 32 characters",
};

interface Started {
  readonly program: string;
  readonly args: readonly string[];
  /** The secrets that it gets. */
  readonly variables: readonly string[];
}

function startedBy(command: string, variables: readonly string[]): Started {
  const [program = "", ...args] = command.trim().split(/\s+/);
  return { program, args, variables: variables.filter((name) => name.startsWith("GRU_")) };
}

interface Service {
  readonly image: string;
  readonly command: string;
  readonly environment: Readonly<Record<string, string>>;
}

interface Container {
  readonly args: readonly [string];
  readonly env: readonly { readonly name: string }[];
}

const { services } = parse(read("compose.yaml"), { merge: true }) as {
  readonly services: Readonly<Record<string, Service>>;
};
const pods: Container[] = parseAllDocuments(read("kubernetes.yaml"))
  .map((document) => document.toJS())
  .filter(({ kind }) => kind === "StatefulSet")
  .flatMap(({ spec }) => spec.template.spec.containers);

const samples: Readonly<Record<string, readonly Started[]>> = {
  "compose.yaml": Object.values(services).filter(({ image }) => image === "gru")
    .map(({ command, environment }) => startedBy(command, Object.keys(environment))),
  "kubernetes.yaml": pods.map(({ args: [line], env }) =>
    startedBy(
      line.replace("exec gru ", "")
        .replaceAll("$((${POD##*-} + 1))", "1")
        .replaceAll("$REGISTRY", "zookeeper://zookeeper:2181/gru")
        .replaceAll("$REDIS", "redis://redis:6379")
        .replaceAll("$IP", "10.0.0.1")
        .replaceAll("$POD", "spear-0"),
      env.map(({ name }) => name),
    )
  ),
};

for (const [sample, all] of Object.entries(samples)) {
  Deno.test(`${sample} starts all five programs with flags that they take, and gives each its own secrets only`, () => {
    assert.deepEqual(
      [...new Set(all.map(({ program }) => program))].sort(),
      ["idgen", "minions", "spear", "stat", "ticket"],
    );
    for (const { program, args, variables } of all) {
      const known = programs.find(({ name }) => name === program);
      assert.ok(known);
      const { schema, profiles } = known;
      const environment = (name: string) => variables.includes(name) ? secrets[name] : undefined;
      loadConfig({ program, schema, profiles, args, environment });
      const readable = /--allow-env=(\S+)/.exec(tasks[program])?.[1]?.split(",") ?? [];
      for (const name of variables) assert.ok(readable.includes(name), `${program}: ${name}`);
    }
  });
}

Deno.test("gru.env names each variable that the programs read with scheme jwt, and no other", () => {
  const named = [...read("gru.env").matchAll(/^(GRU_\w+)=/gm)].map(([, name = ""]) => name);
  assert.deepEqual(named.toSorted(), Object.keys(secrets).toSorted());
  for (const name of named) {
    assert.ok(programs.some(({ name: program }) => tasks[program]?.includes(name)), name);
  }
});

slowTest(
  "the launchers of an image start a program as its task does, and ask for its health",
  async () => {
    const folder = await Deno.makeTempDir({ prefix: "gru_image_" });
    const run = async (name: string, args: string[], environment = {}) => {
      const { code, stderr } = await new Deno.Command(`${folder}/${name}`, {
        args,
        cwd: projectRoot,
        env: environment,
      }).output();
      return { code, stderr: new TextDecoder().decode(stderr) };
    };
    try {
      await new Deno.Command("deno", {
        args: ["run", "-A", "shared/deploy/launchers.ts", folder],
        cwd: projectRoot,
      }).output();
      assert.deepEqual(await run("gru", ["idgen", "--profile", "dev", "--check"]), {
        code: 0,
        stderr: "",
      });
      const { code, stderr } = await run("gru", ["mail"]);
      assert.deepEqual([code, stderr], [
        2,
        "gru: expected ticket, spear, stat, idgen, minions, got mail\n",
      ]);

      let status = 200;
      const port = freePort();
      const served: string[] = [];
      await using _server = Deno.serve(
        { port, hostname: "127.0.0.1", onListen() {} },
        ({ url }) => {
          served.push(new URL(url).pathname);
          return new Response("", { status });
        },
      );
      const health = async (port: number) =>
        (await run("gru-healthy", [], { GRU_HEALTH_PORT: `${port}` })).code;
      assert.equal(await health(port), 0);
      status = 503;
      assert.equal(await health(port), 1);
      assert.deepEqual(served, ["/healthz", "/healthz"]);
      assert.equal(await health(freePort()), 1);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
);
