import { de } from "./words.de";
import { en, type Key, type Words } from "./words";

export type Theme = "system" | "light" | "dark";
export type Language = "en" | "de";

const catalogues: Record<Language, Words> = { en, de };

class Settings {
  theme = $state<Theme>((localStorage.getItem("zero.theme") as Theme | null) ?? "system");
  language = $state<Language>(
    (localStorage.getItem("zero.language") as Language | null) ?? (navigator.language.startsWith("de") ? "de" : "en"),
  );

  setTheme = (theme: Theme) => {
    this.theme = theme;
    localStorage.setItem("zero.theme", theme);
    this.apply();
  };

  setLanguage = (language: Language) => {
    this.language = language;
    localStorage.setItem("zero.language", language);
    this.apply();
  };

  apply = () => {
    const root = document.documentElement;
    root.lang = this.language;
    if (this.theme === "system") delete root.dataset.theme;
    else root.dataset.theme = this.theme;
  };
}

export const settings = new Settings();
settings.apply();

/** How numbers and times are written: as people of the browser's own country do, where it speaks the language. */
const locale = () => navigator.languages.find((one) => one.startsWith(settings.language)) ?? settings.language;

/** The words for a key, with `{name}` replaced. */
export function t(key: Key, values: Record<string, string | number> = {}): string {
  return catalogues[settings.language][key].replace(/\{(\w+)\}/g, (all, name: string) => {
    const value = values[name];
    return value === undefined ? all : typeof value === "number" ? number(value) : value;
  });
}

/** The words for one of the server's own names, such as a status; the name itself when there are none. */
export function named(group: string, name: string): string {
  const key = `${group}.${name}`;
  return key in en ? t(key as Key) : name.replaceAll("_", " ");
}

export const devices = (total: number) => (total === 1 ? t("devices.count.one") : t("devices.count", { total }));

/** In the largest unit that leaves at least 1, of 1,024 each. */
export function bytes(count: number): string {
  const units = ["byte", "KiB", "MiB", "GiB", "TiB"];
  const step = Math.min(units.length - 1, count < 1 ? 0 : Math.floor(Math.log2(count) / 10));
  const shown = count / 1024 ** step;
  const digits = { maximumFractionDigits: step > 0 && shown < 10 ? 1 : 0 };
  return `${new Intl.NumberFormat(locale(), digits).format(shown)} ${units[step]}`;
}

export const number = (value: number) => new Intl.NumberFormat(locale()).format(value);

/** The reader's zone at that time, such as "CET". */
function zone(at: Date): string {
  const parts = new Intl.DateTimeFormat(locale(), { timeZoneName: "short" }).formatToParts(at);
  return parts.find(({ type }) => type === "timeZoneName")?.value ?? "";
}

export function dateTime(value: string): string {
  const at = new Date(value);
  return `${new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" }).format(at)} ${zone(at)}`;
}

/** A day, as the heading of times without their zone. */
export function day(value: string): string {
  const at = new Date(value);
  return `${new Intl.DateTimeFormat(locale(), { dateStyle: "full" }).format(at)} · ${zone(at)}`;
}

/** A day of a statistic, which counts in UTC. */
export const shortDay = (value: string) =>
  new Intl.DateTimeFormat(locale(), { day: "numeric", month: "short", timeZone: "UTC" }).format(new Date(value));

export const time = (value: string) => new Intl.DateTimeFormat(locale(), { timeStyle: "medium" }).format(new Date(value));

let now = $state(Date.now());
setInterval(() => (now = Date.now()), 15_000);

/** "3 minutes ago", and true as long as it is shown. */
export function ago(value: string): string {
  const seconds = (Date.parse(value) - now) / 1000;
  const format = new Intl.RelativeTimeFormat(locale(), { numeric: "auto" });
  const steps = [[86400 * 30, "month"], [86400, "day"], [3600, "hour"], [60, "minute"]] as const;
  for (const [size, unit] of steps) {
    if (Math.abs(seconds) >= size) return format.format(Math.round(seconds / size), unit);
  }
  return format.format(Math.round(Math.min(seconds, 0)), "second");
}
