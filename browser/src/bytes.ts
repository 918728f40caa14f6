/** Bytes: spelling, joining, comparing. */

export type Bytes = Uint8Array<ArrayBuffer>;

const ENCODER = new TextEncoder();
// `fatal` refuses what is no UTF-8; `ignoreBOM` keeps a byte order mark, which is a character like others.
const DECODER = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export function utf8(text: string): Bytes {
  return ENCODER.encode(text);
}

/** Decode UTF-8, null for bytes that are none. */
export function fromUtf8(bytes: Uint8Array): string | null {
  try {
    return DECODER.decode(bytes);
  } catch {
    return null;
  }
}

/** Copy bytes that may lie in shared memory to memory of their own. */
export function owned(bytes: Uint8Array): Bytes {
  return Uint8Array.from(bytes);
}

export function concat(...parts: Uint8Array[]): Bytes {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Compare bytes that nobody keeps secret. */
export function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

export function startsWith(bytes: Uint8Array, prefix: Uint8Array): boolean {
  return bytes.length >= prefix.length && equal(bytes.subarray(0, prefix.length), prefix);
}

export function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Read lower-case hex.
 *
 * @throws RangeError for anything else: the caller's own constants and the page's own policy are hex.
 */
export function fromHex(text: string): Bytes {
  if (text.length % 2 !== 0 || !/^[0-9a-f]*$/.test(text)) {
    throw new RangeError("expected lower-case hex");
  }
  return Uint8Array.from({ length: text.length / 2 }, (_, index) =>
    Number.parseInt(text.slice(2 * index, 2 * index + 2), 16),
  );
}

export function base64(bytes: Uint8Array): string {
  // In pieces: a call takes only so many arguments.
  let binary = "";
  for (let at = 0; at < bytes.length; at += 8192) {
    binary += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return btoa(binary);
}

/** Read base64.
 *
 * @throws DOMException for anything else.
 */
export function fromBase64(text: string): Bytes {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** Write an unsigned number of `size` bytes, the most significant first. */
export function uint(value: number, size: number): Bytes {
  const bytes = new Uint8Array(size);
  let rest = value;
  for (let at = size - 1; at >= 0; at -= 1) {
    bytes[at] = rest % 256;
    rest = Math.floor(rest / 256);
  }
  return bytes;
}

/** Read an unsigned number of at most six bytes, the most significant first. */
export function readUint(bytes: Uint8Array): number {
  return bytes.reduce((value, byte) => value * 256 + byte, 0);
}

/** What Python's str.isprintable takes: neither controls nor separators, but the space. */
export function isPrintable(text: string): boolean {
  return !/[\p{C}\p{Z}]/u.test(text.replaceAll(" ", ""));
}

/** Count characters as Unicode does, not as JavaScript's halves. */
export function characters(text: string): number {
  return [...text].length;
}
