/**
 * As much of the browser's driver, playwright-core, as the tests of the console use. Its own types would bring the whole
 * package to every start: see {@linkcode requireFrom}.
 */
import fs from "node:fs";
import { requireFrom } from "@gru/shared/testing/packages";

export interface Driver {
  readonly chromium: {
    launch(options: { executablePath: string; args: readonly string[] }): Promise<Browser>;
  };
}

export interface Browser {
  newContext(options: PageOptions): Promise<Context>;
  newPage(options: PageOptions): Promise<Page>;
  close(): Promise<void>;
}

export interface PageOptions {
  readonly locale?: string;
  readonly colorScheme?: "dark" | "light";
}

export interface Context {
  cookies(): Promise<readonly Cookie[]>;
  newCDPSession(page: Page): Promise<DebuggerSession>;
  newPage(): Promise<Page>;
  /** As when the machine has lost its network. */
  setOffline(isOffline: boolean): Promise<void>;
  close(): Promise<void>;
}

export interface Cookie {
  readonly name: string;
  readonly value: string;
  readonly httpOnly: boolean;
  readonly sameSite: "Strict" | "Lax" | "None";
}

export interface DebuggerSession {
  send(
    method: "Runtime.evaluate",
    params: Readonly<Record<string, unknown>>,
  ): Promise<{ readonly result: { readonly value?: unknown } }>;
  detach(): Promise<void>;
}

/** Where to look for elements: the whole page, or what is inside an element. */
interface Place {
  locator(selector: string, options?: { readonly hasText: string | RegExp }): Locator;
  getByRole(role: string, options?: { readonly name: string; readonly exact?: boolean }): Locator;
  getByLabel(text: string, options?: { readonly exact: boolean }): Locator;
  getByText(text: string | RegExp, options?: { readonly exact: boolean }): Locator;
}

export interface Page extends Place {
  readonly keyboard: { press(key: string): Promise<void>; type(text: string): Promise<void> };
  context(): Context;
  goto(url: string): Promise<unknown>;
  reload(): Promise<unknown>;
  url(): string;
  on(event: "pageerror", listener: (error: Error) => void): void;
  /** What is given runs in the page: as a text, or as a function that uses nothing from around it. */
  evaluate<T>(script: string | (() => T | Promise<T>)): Promise<T>;
  emulateMedia(options: { readonly colorScheme: "dark" | "light" }): Promise<void>;
  setDefaultTimeout(milliseconds: number): void;
  setViewportSize(size: { readonly width: number; readonly height: number }): Promise<void>;
  screenshot(options: { readonly path: string; readonly fullPage: boolean }): Promise<unknown>;
  close(): Promise<void>;
}

/** Elements, found anew at each use. What acts on one waits until it is there, and fails when there are several. */
export interface Locator extends Place {
  first(): Locator;
  nth(index: number): Locator;
  count(): Promise<number>;
  click(): Promise<void>;
  fill(text: string): Promise<void>;
  focus(): Promise<void>;
  waitFor(
    options?: { readonly state?: "attached" | "detached"; readonly timeout?: number },
  ): Promise<void>;
  textContent(): Promise<string | null>;
  allInnerTexts(): Promise<string[]>;
  getAttribute(name: string): Promise<string | null>;
  // deno-lint-ignore no-explicit-any -- the types here are not the browser's
  evaluate<T>(script: (element: any) => T): Promise<T>;
  elementHandle(): Promise<Pick<Locator, "evaluate"> | null>;
}

export interface Tools {
  readonly driver: Driver;
  /** The script of axe-core: it looks in a page for what keeps people from using it. */
  readonly axe: string;
}

let tools: Promise<Tools> | undefined;

/** Downloads them where that has not been done, and loads them once. */
export function loadDriver(): Promise<Tools> {
  tools ??= load();
  return tools;
}

async function load(): Promise<Tools> {
  const require = await requireFrom(new URL("console_driver.lock", import.meta.url));
  const axe = await Deno.readTextFile(require.resolve("axe-core/axe.min.js"));
  return { driver: withoutLookingIntoProc(() => require("playwright-core")), axe };
}

/**
 * The driver looks into /proc when it is loaded, to find out whether it is on Windows. Deno lets nobody without all
 * permissions look there, and throws: here it is told that there is nothing.
 */
function withoutLookingIntoProc<T>(load: () => T): T {
  const { existsSync } = fs;
  fs.existsSync = (path) => {
    try {
      return existsSync(path);
    } catch {
      return false;
    }
  };
  try {
    return load();
  } finally {
    fs.existsSync = existsSync;
  }
}
