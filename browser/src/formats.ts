/** Formats of files by their first bytes: those that the enclave decodes, and others by name. */

import { fromUtf8, startsWith, utf8 } from "./bytes.ts";
import type { MediaType } from "./seal.ts";

/** What a file is that the enclave does not decode; the page has a sentence for each. */
export type OtherFormat = "heic" | "gif" | "pdf" | "film" | "web-page" | "text" | "unknown";

const MAGIC: readonly [MediaType, readonly number[]][] = [
  ["image/jpeg", [0xff, 0xd8, 0xff]],
  ["image/png", [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]],
  ["image/bmp", [0x42, 0x4d]],
  ["image/tiff", [0x49, 0x49, 0x2a, 0]],
  ["image/tiff", [0x4d, 0x4d, 0, 0x2a]],
];
const HEIF_BRANDS = ["heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1", "avif", "avis"];

/** Tell the format by the first bytes, whatever the file is called; null if the enclave does not decode it. */
export function mediaTypeOf(data: Uint8Array): MediaType | null {
  const isWebp = startsWith(data, utf8("RIFF")) && ascii(data, 8, 12) === "WEBP";
  const found = MAGIC.find(([, magic]) => startsWith(data, Uint8Array.from(magic)));
  return isWebp ? "image/webp" : (found?.[0] ?? null);
}

/** Guess what a file is that the enclave does not decode. */
export function otherFormatOf(data: Uint8Array): OtherFormat {
  if (ascii(data, 4, 8) === "ftyp") {
    return HEIF_BRANDS.includes(ascii(data, 8, 12)) ? "heic" : "film";
  }
  if (startsWith(data, utf8("GIF8"))) {
    return "gif";
  }
  if (startsWith(data, utf8("%PDF"))) {
    return "pdf";
  }
  // The last character of a cut text may be incomplete, so less is looked at than may be there.
  const text = fromUtf8(data.subarray(0, 64))?.trimStart().toLowerCase() ?? null;
  if (text?.startsWith("<!doctype html") || text?.startsWith("<html")) {
    return "web-page";
  }
  return text !== null && text.length > 0 && !text.includes("\0") ? "text" : "unknown";
}

function ascii(data: Uint8Array, start: number, end: number): string {
  return String.fromCharCode(...data.subarray(start, end));
}
