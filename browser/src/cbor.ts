/**
 * A strict reader of CBOR (RFC 8949) that an attacker may have written, and a deterministic writer.
 *
 * The reader is total: for any bytes it returns a value or throws CborError, and what it builds is bounded
 * by the length of its input. It knows integers, byte strings, text, arrays, maps, null, true and false. A
 * map's keys are integers or text.
 */

import { type Bytes, concat, fromUtf8, owned, utf8 } from "./bytes.ts";

export type Key = number | bigint | string;
/** Integers that a number cannot hold exactly are bigint, and no others are. */
export type Value = Key | Bytes | boolean | null | Value[] | CborMap;
export type CborMap = Map<Key, Value>;

export class CborError extends Error {}

export interface Options {
  /** How deep arrays and maps may nest. */
  maxDepth: number;
  /** Indefinite lengths, which AWS has written in documents since 2025. The protocol's own CBOR has none. */
  allowIndefinite: boolean;
  /** One tag that may stand before the value, and is skipped. */
  optionalTag?: number;
}

/** What attestation documents may use: they nest three deep. */
export const DOCUMENT: Options = { maxDepth: 8, allowIndefinite: true };
/** What the protocol and receipts use. */
export const PROTOCOL: Options = { maxDepth: 4, allowIndefinite: false };

const INDEFINITE = -1;
const BREAK = 0xff;
enum Major {
  Uint,
  Negative,
  Bytes,
  Text,
  Array,
  Map,
  Tag,
  Simple,
}

/** Decode bytes that are exactly one value.
 *
 * @throws CborError if they break a rule, or bytes follow the value.
 */
export function decode(data: Uint8Array, options: Options): Value {
  const reader = new Reader(data, options);
  if (options.optionalTag !== undefined) {
    reader.skipTag(options.optionalTag);
  }
  const value = reader.value(options.maxDepth);
  if (reader.offset !== data.length) {
    throw new CborError(`${data.length - reader.offset} bytes follow the value`);
  }
  return value;
}

class Reader {
  offset = 0;
  readonly #data: Uint8Array;
  readonly #options: Options;

  constructor(data: Uint8Array, options: Options) {
    this.#data = data;
    this.#options = options;
  }

  skipTag(tag: number): void {
    const first = this.#data[0];
    if (first !== undefined && first >> 5 === Major.Tag) {
      const [, found] = this.#head();
      if (found !== tag) {
        throw new CborError(`expected no tag or tag ${tag}, found tag ${found}`);
      }
    }
  }

  value(depth: number): Value {
    const info = (this.#data[this.offset] ?? 0) & 31;
    const [major, argument] = this.#head();
    switch (major) {
      case Major.Uint:
        return argument;
      case Major.Negative:
        return negative(argument);
      case Major.Bytes:
        return concat(...this.#chunks(major, argument));
      case Major.Text:
        return this.#chunks(major, argument).map(text).join("");
      case Major.Array:
      case Major.Map:
        if (depth <= 0) {
          throw new CborError("nested too deeply");
        }
        return major === Major.Array ? this.#array(argument, depth - 1) : this.#map(argument, depth - 1);
      case Major.Simple:
        if (info >= 20 && info <= 22) {
          return info === 22 ? null : info === 21;
        }
    }
    throw new CborError("a tag, a float or an unknown simple value");
  }

  /** Read a major type and its argument: a number, a length, or INDEFINITE. */
  #head(): [Major, number | bigint] {
    const initial = this.#take(1)[0] as number;
    const major = initial >> 5;
    const info = initial & 31;
    if (info < 24) {
      return [major, info];
    }
    if (info === 31 && major >= Major.Bytes && major <= Major.Map && this.#options.allowIndefinite) {
      return [major, INDEFINITE];
    }
    if (info > 27) {
      throw new CborError("an indefinite length, a stray break or a reserved form");
    }
    const value = this.#take(1 << (info - 24)).reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
    return [major, narrowed(value)];
  }

  #take(count: number | bigint): Uint8Array {
    const left = this.#data.length - this.offset;
    if (count > left) {
      throw new CborError(`expected ${count} more bytes, found ${left}`);
    }
    const start = this.offset;
    this.offset += Number(count);
    return this.#data.subarray(start, this.offset);
  }

  #atBreak(): boolean {
    const found = this.#data[this.offset] === BREAK;
    this.offset += found ? 1 : 0;
    return found;
  }

  #chunks(major: Major, length: number | bigint): Uint8Array[] {
    if (length !== INDEFINITE) {
      return [this.#take(length)];
    }
    const chunks: Uint8Array[] = [];
    while (!this.#atBreak()) {
      const [chunkMajor, chunkLength] = this.#head();
      if (chunkMajor !== major || chunkLength === INDEFINITE) {
        throw new CborError("expected a definite chunk of the same string");
      }
      chunks.push(this.#take(chunkLength));
    }
    return chunks;
  }

  #isMore(count: number | bigint, done: number): boolean {
    return count === INDEFINITE ? !this.#atBreak() : done < count;
  }

  #array(count: number | bigint, depth: number): Value[] {
    const items: Value[] = [];
    while (this.#isMore(count, items.length)) {
      items.push(this.value(depth));
    }
    return items;
  }

  #map(count: number | bigint, depth: number): CborMap {
    const pairs: CborMap = new Map();
    while (this.#isMore(count, pairs.size)) {
      const key = this.value(0);
      if (typeof key !== "number" && typeof key !== "bigint" && typeof key !== "string") {
        throw new CborError("a map key that is neither an integer nor text");
      }
      if (pairs.has(key)) {
        throw new CborError("a map key that comes twice");
      }
      pairs.set(key, this.value(depth));
    }
    return pairs;
  }
}

function narrowed(value: bigint): number | bigint {
  const isExact = value <= Number.MAX_SAFE_INTEGER && value >= Number.MIN_SAFE_INTEGER;
  return isExact ? Number(value) : value;
}

function negative(argument: number | bigint): number | bigint {
  return narrowed(-1n - BigInt(argument));
}

function text(chunk: Uint8Array): string {
  const found = fromUtf8(chunk);
  if (found === null) {
    throw new CborError("text is not UTF-8");
  }
  return found;
}

/** Encode deterministically (RFC 8949 section 4.2.1): shortest heads, keys in the order of their bytes. */
export function encode(value: Value): Bytes {
  if (value === null || typeof value === "boolean") {
    return Uint8Array.of(value === null ? 0xf6 : value ? 0xf5 : 0xf4);
  }
  if (typeof value === "number" || typeof value === "bigint") {
    const whole = BigInt(value);
    return whole >= 0n ? head(Major.Uint, whole) : head(Major.Negative, -1n - whole);
  }
  if (typeof value === "string") {
    const bytes = utf8(value);
    return concat(head(Major.Text, bytes.length), bytes);
  }
  if (value instanceof Uint8Array) {
    return concat(head(Major.Bytes, value.length), value);
  }
  if (Array.isArray(value)) {
    return concat(head(Major.Array, value.length), ...value.map(encode));
  }
  const pairs = [...value].map(([key, item]) => [encode(key), encode(item)] as const);
  pairs.sort(([a], [b]) => order(a, b));
  return concat(head(Major.Map, pairs.length), ...pairs.flat());
}

function head(major: Major, argument: number | bigint): Bytes {
  const value = BigInt(argument);
  if (value < 24n) {
    return Uint8Array.of((major << 5) | Number(value));
  }
  const exponent = value < 1n << 8n ? 0 : value < 1n << 16n ? 1 : value < 1n << 32n ? 2 : 3;
  const bytes = new Uint8Array(1 + (1 << exponent));
  bytes[0] = (major << 5) | (24 + exponent);
  let rest = value;
  for (let at = bytes.length - 1; at > 0; at -= 1) {
    bytes[at] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return bytes;
}

function order(a: Uint8Array, b: Uint8Array): number {
  for (let at = 0; at < Math.min(a.length, b.length); at += 1) {
    const difference = (a[at] as number) - (b[at] as number);
    if (difference !== 0) {
      return difference;
    }
  }
  return a.length - b.length;
}

/** Return a byte string of a decoded value, null for anything else. */
export function asBytes(value: Value | undefined): Bytes | null {
  return value instanceof Uint8Array ? owned(value) : null;
}
