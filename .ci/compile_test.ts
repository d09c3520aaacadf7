/** What `deno task compile` says when it cannot go on. */
import assert from "node:assert/strict";
import { withoutBase } from "./compile_base.ts";

/** As Deno 2.9.3 wrote it on a machine that cannot reach dl.deno.land. */
const unreachable = `Compile ticket/main.ts to dist/ticket
Download https://dl.deno.land/release/v2.9.3/denort-x86_64-unknown-linux-gnu.zip
error: Writing deno compile executable to temporary file 'dist/ticket.tmp-ccc41ba5daba8d2a'

Caused by:
    0: Setting up base binary.
    1: error sending request for url (https://dl.deno.land/): client error (Connect)
    2: client error (Connect)
    3: dns error
    4: failed to lookup address information: Name or service not known

Stack backtrace:
   0: <unknown>
  11: __libc_start_call_main
             at ./csu/../sysdeps/nptl/libc_start_call_main.h:58:16
`;

Deno.test("compile says in one line that the base executable cannot be had, why, and what to do", () => {
  const line = withoutBase(unreachable) ?? "";
  assert.match(
    line,
    /^compile: cannot get denort .*: failed to lookup address information: Name or service not known; set DENORT_BIN/,
  );
  assert.ok(!line.includes("\n"));
});

Deno.test("compile shows another failure as it is", () => {
  assert.equal(withoutBase("error: Type checking failed."), undefined);
});
