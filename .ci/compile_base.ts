/** The executable without a program that `deno compile` puts before each program. */

export const base = `denort of Deno ${Deno.version.deno} for ${Deno.build.target}`;

/** One line when it could not be had, from what `deno compile` wrote; undefined for another failure. */
export function withoutBase(stderr: string): string | undefined {
  if (!stderr.includes("Setting up base binary")) return undefined;
  // The deepest cause says most.
  const causes = [...stderr.matchAll(/^ +\d+: (?!<unknown>|__libc)(.+)$/gm)];
  return `compile: cannot get ${base}: ${causes.at(-1)?.[1] ?? "unknown"}; ` +
    "set DENORT_BIN to its file, or run the tasks or the image of shared/deploy instead";
}
