/** A spear that counts nothing: to see, beside a real one, what counting costs. See `metrics_bench.ts`. */
import { checkNode } from "@gru/shared/node";
import { runProgram } from "@gru/shared/program";
import { spearSchema } from "../config.ts";
import { SpearMetrics } from "../metrics.ts";
import { startSpear } from "../spear.ts";

const nothing = () => {};
Object.assign(SpearMetrics.prototype, {
  ...{ refused: nothing, fannedOut: nothing, delivered: nothing, waited: nothing },
  ...{ recovery: nothing, missed: nothing, repaired: nothing, event: nothing },
  disconnected: nothing,
  counting: <T>(submit: T) => submit,
});

await runProgram({
  name: "spear",
  schema: spearSchema,
  profiles: new URL("../profiles/", import.meta.url),
  check: checkNode,
  start: (config, stop) => startSpear(config, { stop }),
});
