/** Sealed requests and sealed answers: padding, what each is bound to, and the content of both. */

import { type Bytes, concat, isZero, readUint, uint, utf8 } from "./bytes.ts";
import { type SealedMessage, type Suite, seal } from "./hpke.ts";
import { ANSWER_PLAINTEXT_BYTES, protocolError } from "./wire.ts";

export const MAX_PICTURE_BYTES = 16 * 1024 * 1024;
export type MediaType = "image/jpeg" | "image/png" | "image/webp" | "image/bmp" | "image/tiff";

const MEDIA_CODES: Record<MediaType, number> = {
  "image/jpeg": 1,
  "image/png": 2,
  "image/webp": 3,
  "image/bmp": 4,
  "image/tiff": 5,
};
// The answer comes on this connection.
const DELIVERY_HERE = 1;

/** A picture with the secrets of its one request: 32 bytes each, fresh, used for nothing else. */
export interface Request {
  picture: Bytes;
  mediaType: MediaType;
  replyKey: Bytes;
  salt: Bytes;
}

/** Return the next length that Padmé allows (PURBs, PETS 2019, section 4): it hides most of a length. */
export function padme(length: number): number {
  const exponent = Math.floor(Math.log2(length));
  const keptBits = Math.floor(Math.log2(exponent)) + 1;
  const step = 2 ** Math.max(exponent - keptBits, 0);
  return Math.ceil(length / step) * step;
}

/** Write `u32 size | content | zeros`, padded by Padmé; the picture is copied once. */
export function requestPlaintext(request: Request): Bytes {
  const head = Uint8Array.of(MEDIA_CODES[request.mediaType], DELIVERY_HERE);
  const content = concat(head, request.replyKey, request.salt);
  const size = content.length + request.picture.length;
  const padded = new Uint8Array(padme(4 + size));
  padded.set(uint(size, 4), 0);
  padded.set(content, 4);
  padded.set(request.picture, 4 + content.length);
  return padded;
}

/** Seal a request; `info` binds suite, request and the session's transcript. */
export function sealRequest(
  suite: Suite,
  key: Bytes,
  id: Bytes,
  transcript: Bytes,
  request: Request,
): Promise<SealedMessage> {
  return seal(suite, key, requestInfo(suite, id, transcript), requestPlaintext(request));
}

export function requestInfo(suite: Suite, id: Bytes, transcript: Bytes): Bytes {
  return concat(utf8("enclavectl request v1"), uint(suite, 2), id, transcript);
}

/** Open an answer with the request's reply key.
 *
 * @throws SessionError `protocol` for another key, request or kind, changed bytes, or padding that is not zero.
 */
export async function openAnswer(
  replyKey: Bytes,
  id: Bytes,
  kind: number,
  ciphertext: Bytes,
): Promise<Bytes> {
  const key = await crypto.subtle.importKey("raw", replyKey, "AES-GCM", false, ["decrypt"]);
  const additionalData = concat(utf8("enclavectl answer v1"), id, Uint8Array.of(kind));
  const iv = concat(new Uint8Array(11), Uint8Array.of(kind));
  let padded: Bytes;
  try {
    padded = new Uint8Array(
      await crypto.subtle.decrypt({ name: "AES-GCM", iv, additionalData }, key, ciphertext),
    );
  } catch {
    throw protocolError("an answer that the enclave did not seal for this request");
  }
  const end = 4 + readUint(padded.subarray(0, 4));
  if (padded.length !== ANSWER_PLAINTEXT_BYTES || end > padded.length || !isZero(padded.subarray(end))) {
    throw protocolError("an answer whose padding is not zeros");
  }
  return padded.slice(4, end);
}
