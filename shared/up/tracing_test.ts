/** The spans that a collector of OpenTelemetry gets from real programs. */
import assert from "node:assert/strict";
import { freePort, serverTest, waitFor } from "@gru/shared/testing/harness";
import { authenticated } from "../../spear/spear_testing.ts";
import type { Json } from "../../spear/test_client.ts";
import { TestCluster } from "./processes.ts";
import { assertSuccess } from "./scenario.ts";

interface Span {
  readonly program: string;
  readonly name: string;
  readonly traceId: string;
  readonly parentSpanId: string;
  readonly spanId: string;
  readonly kind: number;
  readonly attributes: ReadonlyMap<string, unknown>;
}

/** Takes OTLP as JSON over HTTP. */
class Collector implements AsyncDisposable {
  readonly spans: Span[] = [];
  readonly #server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const body: Json = await request.json();
      for (const { resource, scopeSpans } of body.resourceSpans ?? []) {
        const program = String(attributesOf(resource).get("service.name"));
        for (const span of scopeSpans.flatMap(({ spans }: Json) => spans)) {
          this.spans.push({ ...span, program, attributes: attributesOf(span) });
        }
      }
      return Response.json({});
    },
  );

  /** What makes a program send its spans here under this name, and soon. */
  environment(program: string): Record<string, string> {
    return {
      OTEL_DENO: "true",
      OTEL_SERVICE_NAME: program,
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${this.#server.addr.port}`,
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_BSP_SCHEDULE_DELAY: "200",
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

function attributesOf({ attributes }: Json): Map<string, unknown> {
  return new Map(
    (attributes as Json[]).map(({ key, value }) => [key, Object.values(value)[0]]),
  );
}

serverTest({
  name:
    "a message's spans of two spears are one trace, and a call of stat's API goes on in the spear",
  needs: ["zookeeper", "redis"],
  fn: async () => {
    await using collector = new Collector();
    await using cluster = await TestCluster.start({ tickMs: 500 });
    const httpPort = freePort();
    const add = (program: "spear" | "stat" | "idgen", id: number, flags = {}) =>
      cluster.add(
        program,
        "test1",
        { id, ...flags },
        collector.environment(`${program}${id}`),
      );
    const [spear1, spear2] = await Promise.all([
      add("spear", 1, { messageSpans: 1, drainMs: 0 }),
      add("spear", 2, { messageSpans: 1, drainMs: 0 }),
      add("stat", 1, { httpPort }),
      add("idgen", 1),
    ]);
    await using ann = await authenticated(spear1.address, 1);
    await using bob = await authenticated(spear2.address, 2);
    for (const [id, client] of [[1, ann], [2, bob]] as const) {
      assertSuccess(
        await client.request("subscribe", { userId: id, subscribeGroups: [{ id: 10 }] }),
      );
    }
    const sent = await ann.request("msg", { type: 1, target: { id: 10 }, content: "hello" });
    assertSuccess(sent);
    const ofMessage = () =>
      collector.spans.filter(({ attributes }) =>
        attributes.get("gru.epoch") === sent.data.epoch &&
        Number(attributes.get("gru.seq")) === sent.data.seq
      );
    await waitFor(() => ofMessage().length >= 7);
    assert.deepEqual(ofMessage().map(({ program, name }) => `${program}: ${name}`).sort(), [
      ...["spear1: gru accept", "spear1: gru id", "spear1: gru publish"],
      ...["spear1: gru receive", "spear1: gru write"],
      ...["spear2: gru receive", "spear2: gru write"],
    ]);
    assert.equal(new Set(ofMessage().map(({ traceId }) => traceId)).size, 1);
    assert.equal(new Set(ofMessage().map(({ parentSpanId }) => parentSpanId)).size, 1);
    assert.deepEqual(
      ofMessage().filter(({ name }) => name === "gru accept").map(({ attributes }) =>
        attributes.get("gru.message.id")
      ),
      [sent.data.id],
    );

    // A caller with a trace of its own: its spans go through stat to the spear that publishes.
    const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
    const answer = await fetch(`http://127.0.0.1:${httpPort}/groups/10/messages`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        traceparent: `00-${traceId}-00f067aa0ba902b7-01`,
      },
      body: JSON.stringify({ content: "from the API" }),
    });
    assert.equal(answer.status, 200, await answer.text());
    const programs = () =>
      new Set(
        collector.spans.filter((span) => span.traceId === traceId).map(({ program }) => program),
      );
    await waitFor(() => programs().has("stat1") && [...programs()].some((p) => /spear/.test(p)), {
      what: `spans of stat and of a spear in the caller's trace; there are ${[...programs()]}`,
    });
  },
});
