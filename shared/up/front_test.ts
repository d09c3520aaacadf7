/** The samples in `shared/deploy`: a real nginx before a real ticket and a real spear, and the unit as systemd reads it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { connect as connectTcp } from "node:net";
import { connect } from "node:tls";
import { io } from "socket.io-client";
import { loadConfig } from "@gru/shared/config";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { projectRoot, serverTest } from "@gru/shared/testing/harness";
import type { z } from "zod";
import { spearSchema } from "../../spear/config.ts";
import { startSpear } from "../../spear/spear.ts";
import { type Dialect, TestClient } from "../../spear/test_client.ts";
import { answers, makeCertificates, run, startFront } from "../../ticket/front_testing.ts";
import { startTicket, ticketSchema } from "../../ticket/ticket.ts";

const secrets: Record<string, string> = {
  GRU_TOKEN1_SECRET: "business-secret-of-32-characters!",
  GRU_TOKEN2_SECRET: "our-own-secret-of-32-characters-!",
};

function configOf<S extends z.ZodObject>(
  program: string,
  schema: S,
  flags: Record<string, string | number>,
): z.output<S> {
  return loadConfig({
    program,
    schema,
    profiles: new URL(`../../${program}/profiles/`, import.meta.url),
    environment: (name) => secrets[name],
    args: Object.entries({ port: 0, ...flags }).map(([key, value]) => `--${key}=${value}`),
  });
}

/** What is answered to these bytes over TLS, from this address, when the other side has closed. */
function exchange(port: number, ca: string, from: string, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const host = "127.0.0.1";
    const tcp = connectTcp({ host, port, localAddress: from });
    const socket = connect({ socket: tcp, host, ca });
    let said = "";
    socket.on("secureConnect", () => socket.write(text));
    socket.on("data", (data) => said += data);
    socket.on("error", reject);
    socket.on("close", () => resolve(said));
  });
}

serverTest({
  name:
    "the sample nginx leads clients to ticket and spear by TLS, hides the rest, and logs no token",
  needs: "nginx",
  fn: async (t) => {
    await using stack = new AsyncDisposableStack();
    const folder = await Deno.makeTempDir({ prefix: "gru_front_" });
    stack.defer(() => Deno.remove(folder, { recursive: true }));
    await makeCertificates(folder);
    const ca = Deno.readTextFileSync(`${folder}/ca.crt`);

    const registry = stack.use(new MemoryRegistry());
    const ticketConfig = configOf("ticket", ticketSchema, {
      ...{ registry: "memory:", "limits.trustedHops": 1, "limits.perAddress": 0.5 },
    });
    const ticket = stack.use(await startTicket(ticketConfig, { registry }));
    const spearConfig = configOf("spear", spearSchema, { mode: "single", drainMs: 0 });
    const spear = stack.use(await startSpear(spearConfig, { registry }));
    const front = stack.use(
      await startFront({
        folder,
        ticketPort: Number(new URL(ticket.address).port),
        spearPort: Number(new URL(spear.address).port),
        changes: {
          "server_name ticket.example.org": "server_name localhost",
          "server_name spear1.example.org": "server_name 127.0.0.1",
          "_timeout 10s": "_timeout 1s",
        },
      }),
    );
    const client = stack.adopt(Deno.createHttpClient({ caCerts: [ca] }), (it) => it.close());
    const query = "/ticket?userId=7&userName=Ann&appType=1&token1=a-token-to-be-kept-secret";

    await t.step("HTTP/2 is spoken", async () => {
      using tls = await Deno.connectTls({
        ...{ hostname: "localhost", port: front.https, caCerts: [ca] },
        alpnProtocols: ["h2", "http/1.1"],
      });
      assert.equal((await tls.handshake()).alpnProtocol, "h2");
    });

    await t.step("the client library comes compressed", async () => {
      const response = await fetch(`https://localhost:${front.https}/gru.js`, { client });
      assert.match(await response.text(), /connect/);
      assert.equal(response.headers.get("access-control-allow-origin"), "*");
      assert.equal(response.headers.get("vary"), "Accept-Encoding");
    });

    await t.step("nothing else of ticket and spear is to be had", async () => {
      for (const host of ["localhost", "127.0.0.1"]) {
        for (const path of ["/", "/nodes", "/metrics", "/healthz", "/readyz", "/ticket/../nodes"]) {
          const response = await fetch(`https://${host}:${front.https}${path}`, { client });
          await response.body?.cancel();
          assert.equal(response.status, 404, `${host}${path}`);
        }
      }
    });

    const { data: { token } } =
      await (await fetch(`https://localhost:${front.https}${query}`, { client })).json();

    for (const transports of [["websocket"], ["polling"], ["polling", "websocket"]]) {
      await t.step(`messages go through by ${transports}`, async () => {
        const dialect: Dialect = {
          name: "through nginx",
          old: false,
          open: (address) =>
            io(address, { reconnection: false, forceNew: true, transports, ca } as object),
        };
        const address = `https://127.0.0.1:${front.https}`;
        await using member = await TestClient.connect(address, dialect);
        assert.equal((await member.request("auth", { id: 7, token2: token })).success, true);
        await member.request("subscribe", { userId: 7, subscribeGroups: [{ id: 10 }] });
        const content = "x".repeat(50_000);
        await member.request("msg", { type: 1, target: { id: 10 }, content });
        assert.equal((await member.next("msg")).content, content);
      });
    }

    await t.step("ticket counts the real address, whatever a client says of itself", async () => {
      const ask = async (from: string, says: string) => {
        const answer = await exchange(
          front.https,
          ca,
          from,
          `GET ${query} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: ${says}\r\nConnection: close\r\n\r\n`,
        );
        return JSON.parse(answer.slice(answer.indexOf("{"), answer.lastIndexOf("}") + 1)).errorCode;
      };
      const codes = [];
      for (let i = 0; i < 8; i++) codes.push(await ask("127.0.0.1", `10.0.0.${i}`));
      assert.ok(codes.includes(712), String(codes));
      assert.equal(await ask("127.0.0.2", "127.0.0.1"), 0);
    });

    await t.step("150 clients behind one address are all in", async () => {
      const address = `https://127.0.0.1:${front.https}`;
      const dialect: Dialect = {
        name: "through nginx",
        old: false,
        open: (address) =>
          io(address, {
            ...{ reconnection: false, forceNew: true, transports: ["websocket"], ca },
          } as object),
      };
      const office = await Promise.all(
        Array.from({ length: 150 }, () => TestClient.connect(address, dialect)),
      );
      // Somebody more asks for a ticket, from another address than the one whose tickets were counted above.
      const answer = await exchange(
        ...[front.https, ca, "127.0.0.3"] as const,
        `GET ${query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`,
      );
      assert.match(answer, /"errorCode":0/);
      for (const client of office) await client[Symbol.asyncDispose]();
    });

    await t.step("who speaks slowly is not waited for", async () => {
      for (const host of ["localhost", "127.0.0.1"]) {
        const text = `POST /ticket HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 100\r\n`;
        for (const end of ["X: ", "\r\nx"]) {
          await exchange(front.https, ca, "127.0.0.1", text + end);
        }
      }
    });

    await t.step("no log has a token in it, also not of what went wrong", async () => {
      await ticket[Symbol.asyncDispose]();
      const response = await fetch(`https://localhost:${front.https}${query}`, { client });
      await response.body?.cancel();
      assert.equal(response.status, 502);
      const logs = ["access.log", "error.log"].map((name) =>
        Deno.readTextFileSync(join(front.folder, name))
      );
      assert.match(logs[0] ?? "", /"GET \/ticket" 200/);
      for (const log of logs) assert.doesNotMatch(log, /token1|kept-secret|userName/);
    });
    assert.ok(await answers(`http://127.0.0.1:${front.nodes}/`));
  },
});

const systemdAnalyze = "/usr/bin/systemd-analyze";

Deno.test({
  name: "the sample unit is one that systemd takes",
  ignore: !exists(systemdAnalyze),
  fn: async () => {
    const folder = await Deno.makeTempDir({ prefix: "gru_unit_" });
    try {
      const sample = Deno.readTextFileSync(join(projectRoot, "shared/deploy/gru@.service"));
      Deno.writeTextFileSync(`${folder}/gru@.service`, sample.replaceAll("/opt/gru", folder));
      // The instance that it takes for a template is named i.
      Deno.writeTextFileSync(`${folder}/i`, "#!/bin/sh\n", { mode: 0o755 });
      await run(systemdAnalyze, ["verify", `${folder}/gru@.service`], folder);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
