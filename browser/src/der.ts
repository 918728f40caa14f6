/**
 * A strict reader of DER (X.690 section 10): definite shortest lengths, nothing left over.
 *
 * Every function throws DerError for anything but the one valid form.
 */

import { fromUtf8, readUint } from "./bytes.ts";

export class DerError extends Error {}

export enum Tag {
  Boolean = 0x01,
  Integer = 0x02,
  BitString = 0x03,
  OctetString = 0x04,
  Null = 0x05,
  Oid = 0x06,
  Utf8String = 0x0c,
  PrintableString = 0x13,
  UtcTime = 0x17,
  GeneralizedTime = 0x18,
  UniversalString = 0x1c,
  BmpString = 0x1e,
  Sequence = 0x30,
  Set = 0x31,
}

/** An element: `raw` is all of it, `content` what is behind its header. `tag` is the first byte. */
export interface Element {
  tag: number;
  content: Uint8Array;
  raw: Uint8Array;
}

/** Read elements one after the other; `end` checks that none is left. */
export class Elements {
  readonly #data: Uint8Array;
  #offset = 0;

  constructor(data: Uint8Array) {
    this.#data = data;
  }

  get isAtEnd(): boolean {
    return this.#offset === this.#data.length;
  }

  /** The tag of the next element, null at the end. */
  get nextTag(): number | null {
    return this.#data[this.#offset] ?? null;
  }

  next(tag?: number): Element {
    const start = this.#offset;
    const found = this.#byte();
    if (tag !== undefined && found !== tag) {
      throw new DerError(`expected the tag ${tag}, found ${found}`);
    }
    if ((found & 31) === 31) {
      this.#longTag();
    }
    const size = this.#length();
    if (size > this.#data.length - this.#offset) {
      throw new DerError("an element is cut short");
    }
    const content = this.#data.subarray(this.#offset, this.#offset + size);
    this.#offset += size;
    return { tag: found, content, raw: this.#data.subarray(start, this.#offset) };
  }

  /** Read the next element if it has this tag. */
  optional(tag: number): Element | null {
    return this.nextTag === tag ? this.next() : null;
  }

  end(): void {
    if (!this.isAtEnd) {
      throw new DerError("bytes follow the last element");
    }
  }

  #byte(): number {
    const byte = this.#data[this.#offset];
    if (byte === undefined) {
      throw new DerError("an element is cut short");
    }
    this.#offset += 1;
    return byte;
  }

  /** Pass over a tag number of 31 or more, which fits four bytes and is not written in more than it needs. */
  #longTag(): void {
    let value = 0;
    for (let count = 0; count < 5; count += 1) {
      const byte = this.#byte();
      if (count === 0 && byte === 0x80) {
        break;
      }
      value = value * 128 + (byte & 127);
      if (byte < 128) {
        if (value < 31 || value > 0xffffffff) {
          break;
        }
        return;
      }
    }
    throw new DerError("a tag in another form");
  }

  #length(): number {
    const first = this.#byte();
    if (first < 128) {
      return first;
    }
    const count = first & 127;
    if (count < 1 || count > 4) {
      throw new DerError("an indefinite or too long length");
    }
    const bytes = Uint8Array.from({ length: count }, () => this.#byte());
    const value = readUint(bytes);
    if (bytes[0] === 0 || value < 128) {
      throw new DerError("a length that is not the shortest");
    }
    return value;
  }
}

/** Read data that is exactly one element. */
export function only(data: Uint8Array, tag?: number): Element {
  const elements = new Elements(data);
  const element = elements.next(tag);
  elements.end();
  return element;
}

/** Read the elements inside of a constructed one. */
export function all(content: Uint8Array): Element[] {
  const elements = new Elements(content);
  const found: Element[] = [];
  while (!elements.isAtEnd) {
    found.push(elements.next());
  }
  return found;
}

/** Check an INTEGER's shortest form, and return its bytes (two's complement). */
export function integer(content: Uint8Array): Uint8Array {
  const [first, second] = content;
  if (first === undefined) {
    throw new DerError("an integer without bytes");
  }
  if (second !== undefined && ((first === 0 && second < 128) || (first === 0xff && second >= 128))) {
    throw new DerError("an integer that is not the shortest");
  }
  return content;
}

/** Read an INTEGER from 0 up that fits a number exactly. */
export function smallUint(content: Uint8Array): number {
  const bytes = integer(content);
  if ((bytes[0] as number) >= 128 || bytes.length > 6) {
    throw new DerError("an integer out of range");
  }
  return readUint(bytes);
}

export function boolean(content: Uint8Array): boolean {
  if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) {
    throw new DerError("a boolean that is neither 00 nor ff");
  }
  return content[0] === 0xff;
}

/** Return a BIT STRING's octets and the count of unused bits, which are zero. */
export function bitString(content: Uint8Array): { octets: Uint8Array; unused: number } {
  const [unused] = content;
  const last = content[content.length - 1];
  if (unused === undefined || last === undefined || unused > 7 || (content.length === 1 && unused > 0)) {
    throw new DerError("a bit string in another form");
  }
  if (unused > 0 && (last & ((1 << unused) - 1)) !== 0) {
    throw new DerError("a bit string whose unused bits are set");
  }
  return { octets: content.subarray(1), unused };
}

/** Return an object identifier in dotted form. */
export function oid(content: Uint8Array): string {
  const last = content[content.length - 1];
  // 63 bytes: more than any that is registered.
  if (last === undefined || last >= 128 || content.length > 63) {
    throw new DerError("an object identifier in another form");
  }
  const arcs: number[] = [];
  let value = 0;
  let isFirst = true;
  for (const byte of content) {
    if (isFirst && byte === 128) {
      throw new DerError("an object identifier that is not the shortest");
    }
    value = value * 128 + (byte & 127);
    isFirst = byte < 128;
    if (isFirst) {
      if (value > 0xffffffff) {
        throw new DerError("an object identifier's number is too large");
      }
      arcs.push(value);
      value = 0;
    }
  }
  const first = arcs.shift() as number;
  const top = Math.min(Math.floor(first / 40), 2);
  return [top, first - 40 * top, ...arcs].join(".");
}

/** Read a time of a certificate (RFC 5280 section 4.1.2.5), in milliseconds since 1970. */
export function time(element: Element): number {
  const text = fromUtf8(element.content) ?? "";
  const isUtc = element.tag === Tag.UtcTime;
  if (!isUtc && element.tag !== Tag.GeneralizedTime) {
    throw new DerError("expected a time");
  }
  const found = (
    isUtc ? /^(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/ : /^(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/
  ).exec(text);
  if (found === null) {
    throw new DerError("a time in another form");
  }
  const [year, month, day, hour, minute, second] = found.slice(1).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const when = new Date(0);
  when.setUTCFullYear(isUtc ? year + (year < 50 ? 2000 : 1900) : year, month - 1, day);
  when.setUTCHours(hour, minute, second);
  // A date that does not exist becomes another one. The year 0 is none in the Python client.
  const again = [
    when.getUTCMonth() + 1,
    when.getUTCDate(),
    when.getUTCHours(),
    when.getUTCMinutes(),
    when.getUTCSeconds(),
  ];
  if (again.join() !== [month, day, hour, minute, second].join() || (!isUtc && year === 0)) {
    throw new DerError("there is no such time");
  }
  return when.getTime();
}

// The string types of RFC 5280's names, and the other types in which text is found there.
const TEXT_TAGS = [0x04, 0x0c, 0x12, 0x13, 0x14, 0x16, 0x17, 0x18, 0x1a, 0x1c, 0x1e];

/** Check the form of a name's value; only string types with a form of their own have one. */
export function checkNameValue({ tag, content }: Element): void {
  if (tag === Tag.BmpString || tag === Tag.UniversalString) {
    wideText(content, tag === Tag.BmpString ? 2 : 4);
  }
  if (tag === Tag.PrintableString && !/^[A-Za-z0-9 '()+,\-./:=?]*$/.test(fromUtf8(content) ?? "\n")) {
    throw new DerError("a printable string that is not");
  }
}

/** Read the text of a name's value, whatever string type it has. */
export function nameText(element: Element): string {
  checkNameValue(element);
  const { tag, content } = element;
  if (tag === Tag.BmpString || tag === Tag.UniversalString) {
    return wideText(content, tag === Tag.BmpString ? 2 : 4);
  }
  const found = fromUtf8(content);
  if (found === null || !TEXT_TAGS.includes(tag)) {
    throw new DerError("a name's value that is no text");
  }
  return found;
}

function wideText(content: Uint8Array, width: number): string {
  if (content.length % width !== 0) {
    throw new DerError("a name's text is cut short");
  }
  let found = "";
  for (let at = 0; at < content.length; at += width) {
    const value = readUint(content.subarray(at, at + width));
    if (value > 0x10ffff) {
      throw new DerError("a name's text has bytes that its type does not have");
    }
    found += String.fromCodePoint(value);
  }
  return found;
}
