/** The load tool follows each message to each client, while connections break. */
import assert from "node:assert/strict";
import { pause } from "@gru/shared/pause";
import { slowTest } from "@gru/shared/testing/harness";
import { Load } from "../../spear/load/load.ts";
import { faultsOf, noFaults } from "../../spear/load/ledger.ts";
import { ClientScene } from "./client_scene.ts";

slowTest(
  "tracking finds each message at each client, in groups of any size, over connections that break",
  async () => {
    await using scene = await ClientScene.start();
    const { load } = await Load.connect({
      ...{ track: true, ticket: scene.ticket, targets: [], sources: [], senders: 0 },
      ...{ clients: 23, groups: 5, content: 20, connecting: 4, firstUser: 1, workers: 2 },
    });
    await using _load = load;
    const tracking = load.track(200, 1.5);
    await pause(500);
    for (const { line } of scene.nodes.values()) line.cut();
    const counts = await tracking;
    assert.deepEqual(faultsOf(counts), noFaults);
    const { sent, accepted, delivered, reconnects, silenceMs } = counts;
    assert.ok(accepted === sent && sent > 100, `${accepted} of ${sent} accepted`);
    // Groups have four members or five.
    assert.ok(delivered >= 4 * sent && delivered <= 5 * sent, `${delivered} delivered of ${sent}`);
    assert.ok(reconnects >= 23 && silenceMs > 0, `${reconnects} reconnects, ${silenceMs} ms`);
  },
);
