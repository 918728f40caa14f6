/** Typed readers of JSON values, for what a page was made with. A wrong value is a broken page. */

import { type Bytes, fromHex } from "./bytes.ts";

export class JsonError extends Error {}

export type JsonObject = Readonly<Record<string, unknown>>;

export function object(value: unknown, where: string): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new JsonError(`${where}: expected an object`);
  }
  return value as JsonObject;
}

export function list(value: unknown, where: string): unknown[] {
  if (!Array.isArray(value)) {
    throw new JsonError(`${where}: expected a list`);
  }
  return value;
}

export function string(value: unknown, where: string): string {
  if (typeof value !== "string") {
    throw new JsonError(`${where}: expected text`);
  }
  return value;
}

export function boolean(value: unknown, where: string): boolean {
  if (typeof value !== "boolean") {
    throw new JsonError(`${where}: expected true or false`);
  }
  return value;
}

/** Read a whole number from `least` to `most`. */
export function integer(value: unknown, where: string, least: number, most: number): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < least || value > most) {
    throw new JsonError(`${where}: expected a whole number from ${least} to ${most}`);
  }
  return value;
}

export function hexBytes(value: unknown, where: string, size: number): Bytes {
  try {
    const bytes = fromHex(string(value, where));
    if (bytes.length === size) {
      return bytes;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) {
      throw error;
    }
  }
  throw new JsonError(`${where}: expected ${size} bytes in hex`);
}

/** Read a time in UTC, in milliseconds since 1970; null stays null. */
export function optionalTime(value: unknown, where: string): number | null {
  if (value === null) {
    return null;
  }
  const text = string(value, where);
  const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|\+00:00)$/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(time)) {
    throw new JsonError(`${where}: expected a time in UTC`);
  }
  return time;
}
