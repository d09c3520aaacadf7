/** How reading a profile ends when it does not end with a configuration. */

/** The message is for the person who started the program; it has one line for each thing that is wrong. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

/** Thrown for `--help`; the message is the help text. */
export class HelpRequested extends Error {
  override readonly name = "HelpRequested";
}
