/** A JSON Schema of a program's profiles, for editors: they complete keys, show meanings and defaults, and mark errors. */
import { z } from "zod";
import { get, leavesOf, type Shape, unset } from "./keys.ts";

/** What schemas here say about keys by `.meta()`; no words of JSON Schema. */
const ownWords = new Set([
  "environmentVariable",
  "lines",
  "profileName",
  "whenMissing",
  "formerly",
  "unknownKeys",
]);

interface ObjectSchema {
  readonly properties: Record<string, object>;
}

/** Without secrets, which no file may hold, and with the former names of keys, marked as deprecated. */
export function jsonSchemaOf(schema: Shape, title: string): object {
  const found = z.toJSONSchema(schema, {
    io: "input",
    target: "draft-7",
    unrepresentable: "any",
    override: ({ jsonSchema }) => {
      for (const word of Object.keys(jsonSchema)) {
        if (ownWords.has(word)) Reflect.deleteProperty(jsonSchema, word);
      }
      // Every integer is below what a number can hold.
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
      if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
    },
  });
  for (const { path, secret, profileName, formerly, key } of leavesOf(schema)) {
    const place = placeOf(path);
    for (const old of formerly) {
      const parts = old.split(".");
      const group = get(found, placeOf(parts).slice(0, -1)) as Record<string, object> | undefined;
      const description = `now called ${key}`;
      if (group !== undefined) {
        group[parts.at(-1) ?? ""] = {
          ...get(found, place) as object,
          ...{ description, deprecated: true },
        };
      }
    }
    if (secret !== undefined || profileName) unset(found, place);
  }
  const { $schema, ...root } = found;
  const { properties } = root as unknown as ObjectSchema;
  return { $schema, title, ...root, properties: { $schema: { type: "string" }, ...properties } };
}

/** `a.b` is at `properties.a.properties.b`. */
function placeOf(path: readonly string[]): string[] {
  return path.flatMap((part) => ["properties", part]);
}
