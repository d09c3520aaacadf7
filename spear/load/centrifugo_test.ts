import assert from "node:assert/strict";
import { slowTest } from "@gru/shared/testing/harness";
import { Load } from "./load.ts";
import { usualLoad } from "./measures.ts";
import { ServerUnderTest } from "./server_under_test.ts";

const program = Deno.env.get("GRU_CENTRIFUGO");
/** Not a failure with `CI` set, as it is for other servers: no package has the program, and its build takes minutes. */
const missing = program === undefined || Deno.env.get("CI") !== undefined;

const title = "the load drives a real Centrifugo: everything that it sends arrives";
if (missing) {
  Deno.test({
    name: `${title} [GRU_CENTRIFUGO does not name the program of Centrifugo 6, or CI is set]`,
    ignore: true,
    fn: () => {},
  });
} else {
  for (const kind of ["centrifugo", "centrifugo-history"] as const) {
    slowTest(`${title} (${kind})`, async () => {
      await using server = await ServerUnderTest.start(kind, {
        core: undefined,
        centrifugo: program,
      });
      const plan = { ...usualLoad, clients: 23, groups: 5, workers: 2, senders: 2 };
      for (const unicast of [false, true]) {
        const { load } = await Load.connect({
          ...{ ...plan, targets: [server.address], protocol: "centrifugo", unicast },
        });
        await using _load = load;
        const { sent, accepted, expected, received, lost } = await load.run(200, 0.5);
        assert.deepEqual({ sent, accepted, received, lost }, {
          ...{ sent: 100, accepted: 100, received: expected, lost: 0 },
        });
        assert.equal(expected, unicast ? 100 : 460);
      }
    });
  }
}
