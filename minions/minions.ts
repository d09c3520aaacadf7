/** The web console. */
import { z } from "zod";
import { profileName, secret } from "@gru/shared/config";
import { idgenContract } from "@gru/idgen/contract";
import { guarded } from "@gru/shared/http/exposure";
import { type NodeOverrides, nodeShape, openNode } from "@gru/shared/node";
import { bodyBytesOf, minionsApp } from "./app.ts";
import { watchCluster } from "./cluster.ts";
import { openMetrics } from "@gru/shared/metrics";
import { minionsMetrics } from "./metrics.ts";
import { spearContract } from "@gru/spear/contract";
import { WrongKeysCount } from "@gru/shared/wrong_keys";
import { statContract } from "@gru/stat/contract";
import { Vitals } from "./vitals.ts";
import { withIdgens } from "./idgens.ts";
import { SignIn } from "./sign_in.ts";
import { readUsers } from "./users.ts";

export const minionsSchema = z.strictObject({
  ...nodeShape(40_000),
  signIn: z.enum(["password", "open"]).default("password").describe(
    "open: without a password everyone on this machine may act; only where other machines cannot reach it",
  ),
  trustedHops: z.int().min(0).max(10).default(0).describe(
    "your own proxies in front of this program; each appends the caller to X-Forwarded-For, and wrong passwords are counted by caller",
  ),
  password: secret("GRU_MINIONS_PASSWORD").describe("opens the console to look and to act"),
  lookPassword: secret("GRU_MINIONS_LOOK_PASSWORD").describe("opens the console to look only"),
  users: secret("GRU_MINIONS_USERS").refine(
    (users) => users === undefined || readUsers(users) !== undefined,
    { error: "expected name:role:salt:hash, as deno task hash prints them, separated by commas" },
  ).describe(
    "users with names of their own, for the audit log: `deno task hash ann act` makes one",
  ),
  apiKey: secret("GRU_STAT_API_KEY").describe("the key of stat's HTTP API, the same as stat's"),
  profile: profileName(),
  token1Secret: secret("GRU_TOKEN1_SECRET").describe(
    "in the profile dev, with ticket's scheme jwt: who may act at the console can make tokens for its simulated clients; other profiles do not use it",
  ),
}).refine(
  ({ signIn, password, users }) =>
    signIn === "open" || password !== undefined || users !== undefined,
  {
    path: ["password"],
    error: "signIn password needs a password",
  },
).superRefine(guarded(["password"], ["apiKey"]));

export type MinionsConfig = z.output<typeof minionsSchema>;

export interface Minions extends AsyncDisposable {
  readonly address: string;
}

/** `idgen-node` lists all idgens, `idgen` only those that issue ids. */
const services = ["ticket", "spear", "idgen-node", "stat", "minions"];

/**
 * @throws {ConfigError} for a bad profile {@linkcode Error} when the port is taken or the registry cannot be reached.
 */
export async function startMinions(
  config: MinionsConfig,
  overrides: NodeOverrides = {},
): Promise<Minions> {
  const { password, lookPassword, users, apiKey, profile, token1Secret } = config;
  await using stack = new AsyncDisposableStack();
  const node = stack.use(await openNode("minions", config, overrides));
  const idgen = stack.use(await node.connect(idgenContract));
  const cluster = stack.use(
    withIdgens(await watchCluster(node.registry, services, node.clock.now), idgen),
  );
  const spears = stack.use(await node.connect(spearContract));
  const stat = stack.use(await node.connect(statContract));
  const closing = new AbortController();
  const { name } = node;
  const named = users === undefined ? undefined : readUsers(users);
  const signIn = new SignIn({ act: password, look: lookPassword, users: named });
  const wrongPasswords = stack.use(
    new WrongKeysCount({
      async note({ address, who, count }) {
        try {
          await stat.any.wrongPasswords({ address: address.slice(0, 100), who, count });
        } catch (error) {
          node.log.warn(
            "{count} wrong passwords from {address} are not in the audit log: {error}",
            {
              ...{ count, address, error },
            },
          );
        }
      },
    }),
  );
  const { gru_minions_pages: pages, gru_minions_sign_ins_total: signIns } = openMetrics(
    node.metrics,
    minionsMetrics,
  );
  const app = minionsApp({
    ...{ name, cluster, signIn, apiKey, closing: closing.signal, now: node.clock.now },
    vitals: new Vitals(
      spears,
      () =>
        cluster.view.instances.flatMap(({ service, name }) => service === "spear" ? [name] : []),
    ),
    // Whoever has this key can be any user: it is for trying alone.
    trialSecret: profile === "dev" ? token1Secret : undefined,
    trustedHops: config.trustedHops,
    onSignIn(result, address, user) {
      signIns.inc({ result });
      // What stands in the field of the name may be a password.
      const known = named?.find((one) => one.name === user)?.name;
      const nobody = user === "" ? "somebody with a shared password" : "an unknown name";
      const facts = { user: known ?? nobody, address };
      if (result === "signed in") node.log.info("{user} signed in from {address}", facts);
      if (result !== "wrong") return;
      node.log.warn("wrong password of {user} from {address}", facts);
      wrongPasswords.add(address, known?.slice(0, 100));
    },
    onPages: (open) => pages.set(open),
  });
  const server = stack.use(
    await node.serve({
      port: config.port,
      app: {
        handler: (request, { remoteAddr }) => app.fetch(request, { address: remoteAddr.hostname }),
        pages: signIn.open ? "own-unkeyed" : "own",
        linked: ["/"],
        bodyBytes: bodyBytesOf(name, signIn),
      },
    }),
  );
  stack.defer(() => closing.abort());
  node.readiness.start();
  stack.use(await node.announce({ http: server.address }));
  const running = stack.move();
  return { address: server.address, [Symbol.asyncDispose]: () => running.disposeAsync() };
}
