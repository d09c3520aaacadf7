/** Numbers and times in the format of the page's language. */
import { language } from "./words.ts";

// Creating a formatter costs far more than using it, and a page with fifty nodes needs hundreds per second.
function both<T>(make: (language: string) => T) {
  return { en: make("en-GB"), zh: make("zh-CN") };
}

const whole = both((name) => new Intl.NumberFormat(name, { maximumFractionDigits: 0 }));
const tenths = both((name) => new Intl.NumberFormat(name, { maximumFractionDigits: 1 }));
const time = both((name) => new Intl.DateTimeFormat(name, { timeStyle: "medium", hour12: false }));
const minute = both((name) => new Intl.DateTimeFormat(name, { timeStyle: "short", hour12: false }));
const date = both((name) =>
  new Intl.DateTimeFormat(name, { dateStyle: "medium", timeStyle: "medium", hour12: false })
);

export function count(number: number): string {
  return whole[language()].format(number);
}

export function rate(number: number): string {
  return (number < 100 ? tenths : whole)[language()].format(number);
}

/** @param share 0.42: `42 %`, 0.0042: `0.4 %` */
export function percent(share: number): string {
  return `${(share < 0.1 ? tenths : whole)[language()].format(100 * share)} %`;
}

/** `12 ms`, `0.4 ms`; "–" for what is not known */
export function milliseconds(ms: number | undefined): string {
  if (ms === undefined) return "–";
  return `${(ms < 10 ? tenths : whole)[language()].format(ms)} ms`;
}

export function megabytes(bytes: number): string {
  return `${count(bytes / 1_048_576)} MB`;
}

const units = {
  en: { d: "d", h: "h", min: "min", s: "s" },
  zh: { d: "天", h: "小时", min: "分钟", s: "秒" },
};

/** `3 d 4 h`, `5 min`, `12 s` */
export function duration(ms: number): string {
  const { d, h, min, s: seconds } = units[language()];
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} ${seconds}`;
  if (s < 3600) return `${Math.floor(s / 60)} ${min}`;
  if (s < 86_400) return `${Math.floor(s / 3600)} ${h} ${Math.floor(s % 3600 / 60)} ${min}`;
  return `${Math.floor(s / 86_400)} ${d} ${Math.floor(s % 86_400 / 3600)} ${h}`;
}

/** @param at Unix milliseconds, here and below */
export function timeOfDay(at: number): string {
  return time[language()].format(at);
}

export function hourAndMinute(at: number): string {
  return minute[language()].format(at);
}

/** `14:03:07.250`, to compare moments. */
export function timeWithMs(at: number): string {
  return `${timeOfDay(at)}.${`${Math.floor(at) % 1000}`.padStart(3, "0")}`;
}

export function dateAndTime(at: number): string {
  return date[language()].format(at);
}
