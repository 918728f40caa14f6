/** The page's languages. To add one, translate en.ts and name it here. */

import { DE } from "./de.ts";
import { EN, type TextKey, type Texts } from "./en.ts";

export const LANGUAGES: Readonly<Record<string, Texts>> = { en: EN, de: DE };
export type { TextKey };

/** Texts of one language, with their blanks filled in. */
export type Say = (key: TextKey, blanks?: Readonly<Record<string, string | number>>) => string;

export function sayIn(language: string): Say {
  const texts = LANGUAGES[language] ?? EN;
  return (key, blanks = {}) =>
    texts[key].replace(/\{(\w+)\}/g, (whole, name: string) => String(blanks[name] ?? whole));
}

/** Choose the first of the user's languages that the page has; English if none. */
export function preferredLanguage(wanted: readonly string[]): string {
  const short = wanted.map((tag) => tag.slice(0, 2).toLowerCase());
  return short.find((language) => language in LANGUAGES) ?? "en";
}
