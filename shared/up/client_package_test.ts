/** The npm package of the client library, packed and installed as people do: in Node.js, and in a Vite project with React. */
import assert from "node:assert/strict";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { requireFrom } from "@gru/shared/testing/packages";
import { dirname, join } from "node:path";
import { npmPackage } from "../../spear/client/build.ts";
import { ClientScene, jwt, online, token1 } from "./client_scene.ts";
import { launchBrowser, openPage, shows } from "./console_testing.ts";

/** What a program writes to standard output. It ends with an error when the program does. */
async function run(cwd: string, program: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, { args, cwd }).output();
  const [out, errors] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assert.ok(success, `${program} ${args.join(" ")}: ${out}${errors}`);
  return out ?? "";
}

const application = `
import { connect, GruError } from "@gru/client";

const [ticket, token] = process.argv.slice(2);
const gru = connect({ ticket, token, user: { id: 1, name: "Ann" } });
const room = gru.group(10);
const came = [];
room.on("message", ({ content }) => came.push(content));
await Promise.all(["a", "b", "c"].map((content) => room.send(content)));
for await (const { content } of (void gru.user(1).send("to myself"), gru.user(1))) {
  came.push(content);
  break;
}
const refused = await room.send("文".repeat(40_000)).catch((error) => error);
console.log(JSON.stringify([came, refused instanceof GruError, refused.code]));
await gru.close();
`;

let installed: Promise<string> | undefined;

/** A project that has the package installed: the same folder for all tests, until they have ended. */
async function install(): Promise<string> {
  const all = await Deno.makeTempDir({ prefix: "gru_package_" });
  addEventListener("unload", () => Deno.removeSync(all, { recursive: true }));
  const [source, project] = [`${all}/source`, `${all}/project`];
  for (const path of [source, project]) await Deno.mkdir(path);
  for (const [name, text] of await npmPackage()) {
    Deno.writeTextFileSync(`${source}/${name}`, text);
  }
  const packed = (await run(source, "npm", "pack", "--silent", "--pack-destination", all)).trim();
  Deno.writeTextFileSync(`${project}/package.json`, '{ "type": "module" }');
  // Without React, which npm would otherwise load for the hooks.
  const quiet = ["--no-audit", "--no-fund", "--silent", "--legacy-peer-deps"];
  await run(project, "npm", "install", ...quiet, `${all}/${packed}`);
  return project;
}

Deno.test("the package, packed and installed in an empty project, works in Node.js, and the process ends by itself", async () => {
  await using scene = await ClientScene.start({ spearFlags: jwt, ticketFlags: jwt });
  const project = await (installed ??= install());
  Deno.writeTextFileSync(`${project}/app.js`, application);
  const out = await run(project, "node", "app.js", scene.ticket, await token1(1));
  assert.deepEqual(JSON.parse(out), [["a", "b", "c", "to myself"], true, "refused"]);
  const types = Deno.readTextFileSync(`${project}/node_modules/@gru/client/index.d.ts`);
  assert.match(types, /export declare function connect\(options: ConnectOptions\): Gru;/);
  assert.doesNotMatch(types, /^import /m);
});

const page = `<!doctype html><title>Chat</title><link rel="icon" href="data:,"><div id="root"></div>
<script type="module" src="/app.jsx"></script>`;

/** Two components show the same group. */
const reactApplication = `
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { connect } from "@gru/client";
import { useGroup, useGruState, useUser } from "@gru/client/react";

const ticket = new URLSearchParams(location.search).get("ticket");
const gru = connect({ ticket, user: { id: 1, name: "Ann" }, retry: { firstMs: 50, mostMs: 500 } });

function Lines({ messages }) {
  return messages.map(({ id, content }) => <p key={id}>{content}</p>);
}
function Room({ name, presence }) {
  const { messages, users, send, closed } = useGroup(gru, 10, { presence, last: 20 });
  return <section id={name}>
    <output>{[...users].sort().join(" ")}</output>
    <Lines messages={messages} />
    <b>{closed?.message}</b>
    <button onClick={() => send("d")}>Send</button>
  </section>;
}
function App() {
  const state = useGruState(gru);
  const own = useUser(gru, 1);
  const [isOpen, open] = useState(true);
  return <>
    <h1>{state.name}</h1>
    <section id="own"><Lines messages={own.messages} /></section>
    <input type="checkbox" aria-label="open" checked={isOpen} onChange={() => open(!isOpen)} />
    {isOpen && <><Room name="first" presence /><Room name="second" /></>}
  </>;
}
createRoot(document.getElementById("root")).render(<StrictMode><App /></StrictMode>);
`;

serverTest({
  name: "the package, installed in a Vite project and built, and its hooks for React, in Chromium",
  needs: "chromium",
  // The browser's driver keeps its pipe and process until some time after `close`.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async () => {
    await using stack = new AsyncDisposableStack();
    const scene = stack.use(await ClientScene.start({ spears: 1 }));
    const [project, require] = await Promise.all([
      installed ??= install(),
      requireFrom(new URL("client_vite.lock", import.meta.url)),
    ]);
    const folderOf = (name: string) => dirname(require.resolve(`${name}/package.json`));
    for (const name of ["react", "react-dom"]) {
      await Deno.symlink(folderOf(name), `${project}/node_modules/${name}`);
    }
    Deno.writeTextFileSync(`${project}/index.html`, page);
    Deno.writeTextFileSync(`${project}/app.jsx`, reactApplication);
    await run(project, "node", join(folderOf("vite"), "bin/vite.js"), "build", "--logLevel=error");
    const server = stack.use(Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (
      { url },
    ) => {
      const { pathname } = new URL(url);
      const path = pathname === "/" ? "/index.html" : pathname;
      const type = path.endsWith(".js") ? "text/javascript" : "text/html";
      return new Response(Deno.readTextFileSync(`${project}/dist${path}`), {
        headers: { "content-type": type },
      });
    }));

    const bob = scene.connect(2);
    const room = bob.group(10, { presence: true });
    room.on("presence", () => {});
    const annIs = (here: boolean) =>
      waitFor(() => room.users.has("1") === here, { what: `Ann is in the group: ${here}` });
    await online(bob);
    for (const content of ["a", "b"]) await room.send(content);

    const browser = await launchBrowser();
    stack.defer(() => browser.close());
    const ticket = encodeURIComponent(scene.ticket);
    const ann = await openPage(browser, `http://127.0.0.1:${server.addr.port}/?ticket=${ticket}`);
    const problems: string[] = [];
    ann.on("pageerror", (error) => problems.push(error.message));
    await shows(ann, "online");
    const lines = (id: string, expected: readonly string[]) =>
      waitFor(async () => {
        const texts = await ann.locator(`#${id} p`).allInnerTexts();
        return texts.join() === expected.join();
      }, { what: `${id} shows ${expected}` });
    const bothShow = async (...expected: string[]) => {
      for (const id of ["first", "second"]) await lines(id, expected);
    };

    await bothShow("a", "b");
    await ann.locator("#first output").getByText("1 2").waitFor();
    const { id } = await room.send("c");
    assert.match(id, /^\d+$/);
    await ann.locator("#second button").click();
    await bothShow("a", "b", "c", "d");
    await bob.user(1).send("just for you");
    await lines("own", ["just for you"]);

    // All connections end.
    for (const { line } of scene.nodes.values()) line.cut();
    await room.send("e");
    await bothShow("a", "b", "c", "d", "e");

    await annIs(true);
    await ann.getByLabel("open").click();
    await annIs(false);
    await room.send("f");
    await ann.getByLabel("open").click();
    await annIs(true);
    await bothShow("a", "b", "c", "d", "e", "f");
    assert.deepEqual(problems, []);
  },
});
