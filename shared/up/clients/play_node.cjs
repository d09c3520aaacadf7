/** Node: `node play_node.cjs <package> <address> <group> <users as JSON>`; texts come as lines `{ via, text }` and events leave as such. */
const fs = require("node:fs");
const path = require("node:path");
const readline = require("node:readline");
const process = require("node:process");

const [name, address, group, users] = process.argv.slice(2);
const script = fs.readFileSync(path.join(__dirname, "play.js"), "utf8");
const play = new Function(`${script}; return play;`)();
const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
const library = require(name);
const send = play(library.io || library, address, Number(group), JSON.parse(users), say);
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const { via, text } = JSON.parse(line);
  send(via, text);
}).on("close", () => process.exit());
