/**
 * The tests for the inner loop, `deno task test:fast`: of all files but those of whole clusters, without what is declared
 * slow. All in one module, since loading each test file by itself takes longer than its tests. They have no permission to
 * start a process: a test that does, and is not declared by `slowTest` or `serverTest`, fails here.
 */
const folders = ["shared", "idgen", "stat", "spear", "ticket", "minions", ".ci"];
const clusters = "shared/up";

for (const path of folders.flatMap(tests)) await import(`../${path}`);

function tests(folder: string): string[] {
  if (folder === clusters) return [];
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) => {
    const path = `${folder}/${name}`;
    if (isDirectory) return tests(path);
    return name.endsWith("_test.ts") ? [path] : [];
  }).sort();
}
