/** The intended secret in the text of an environment variable. */

export type SecretText =
  | { readonly text: string; readonly problem?: undefined }
  | { readonly problem: string };

/**
 * Removes the white space and line ends around the secret, which files and shells add. Spaces inside are allowed,
 * because people use phrases; with `lines` also line ends, as in PEM, which may be written as `\n` where a file holds
 * one line for each variable. The problem text does not contain the secret. An empty text gives neither.
 */
export function secretText(value: string, { lines = false } = {}): SecretText {
  const text = (lines ? value.replaceAll(/(\\r)?\\n/g, "\n") : value).trim();
  if (text === "" && value !== "") return { problem: "holds nothing but white space" };
  const found = (lines ? /(?![\r\n\t ])[\p{Cc}\p{Cf}\s\\]/u : /(?! )[\p{Cc}\p{Cf}\s]/u).exec(text);
  if (found === null) return { text };
  const name = /[\r\n]/.test(found[0])
    ? "a line end"
    : found[0] === "\\"
    ? "a backslash"
    : "a control character or an invisible one or unusual white space";
  const hex = found[0].charCodeAt(0).toString(16).toUpperCase().padStart(4, "0");
  return { problem: `holds ${name} inside (U+${hex}); expected ${lines ? "PEM" : "one line"}` };
}
