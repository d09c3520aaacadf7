/**
 * An idgen node with a clock that is wrong, or jumps about once a second: `faults_fixture.ts <offsetMs> <jumpMs> --flag
 * …`
 */
import { loadConfig } from "@gru/shared/config";
import { configureLog } from "@gru/shared/log";
import { runUntilSignal } from "@gru/shared/program";
import { idgenSchema, startIdgen } from "./idgen.ts";

function jumpingClock(offsetMs: number, jumpMs: number): () => number {
  let jumpAt = 0;
  let offNowMs = offsetMs;
  return () => {
    const now = performance.now();
    if (now >= jumpAt) {
      jumpAt = now + 2000 * Math.random();
      offNowMs = offsetMs + Math.round(jumpMs * (2 * Math.random() - 1));
    }
    return Date.now() + offNowMs;
  };
}

if (import.meta.main) {
  const [offset, jump, ...args] = Deno.args;
  const profiles = new URL("./profiles/", import.meta.url);
  const config = loadConfig({ program: "idgen", schema: idgenSchema, profiles, args });
  configureLog(config.log);
  const wallMs = jumpingClock(Number(offset), Number(jump));
  await runUntilSignal("idgen", () => startIdgen(config, { wallMs }));
  Deno.exit(0);
}
