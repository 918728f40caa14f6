/** Frames and messages of protocol version 1, the client's half (docs/protocol.md). */

import { sha384 } from "@noble/hashes/sha2.js";
import { type Bytes, concat, owned, readUint, uint, utf8 } from "./bytes.ts";
import { MAX_DOCUMENT_BYTES } from "./cose.ts";
import { SessionError } from "./errors.ts";

export const VERSION = 1;
export const NONCE_BYTES = 32;
export const ANSWER_PLAINTEXT_BYTES = 4096;
// A card (1,000 labels take 46 kB), its keys and its salt.
export const MAX_KEY_CONFIG_BYTES = 72 * 1024;
const SESSION_ID_BYTES = 16;
const REQUEST_ID_BYTES = SESSION_ID_BYTES + 8;
const HEADER_BYTES = 5;

export enum FrameType {
  Challenge = 1,
  Evidence = 2,
  Sealed = 3,
  Answer = 4,
  Refusal = 5,
}

const MAX_BODY: Partial<Record<FrameType, number>> = {
  [FrameType.Evidence]: 2 + MAX_DOCUMENT_BYTES + MAX_KEY_CONFIG_BYTES,
  [FrameType.Answer]: REQUEST_ID_BYTES + 1 + ANSWER_PLAINTEXT_BYTES + 16,
  [FrameType.Refusal]: 2 + REQUEST_ID_BYTES,
};

export interface Frame {
  type: FrameType;
  body: Bytes;
}

/** Turns a byte stream into frames; refuses a frame by its header, before it keeps the body. */
export class FrameReader {
  #accepted: readonly FrameType[] = [];
  #buffer: Bytes = new Uint8Array(0);

  /** Say which types may come now; each has a limit of its own. */
  accept(...types: FrameType[]): void {
    this.#accepted = types;
  }

  /** Take what came, and yield the frames that are whole, each before the next one is looked at.
   *
   * @throws SessionError `protocol`.
   */
  *feed(data: Uint8Array): Generator<Frame, void> {
    this.#buffer = concat(this.#buffer, data);
    for (let frame = this.#next(); frame !== null; frame = this.#next()) {
      yield frame;
    }
  }

  #next(): Frame | null {
    if (this.#buffer.length < HEADER_BYTES) {
      return null;
    }
    const length = readUint(this.#buffer.subarray(0, 4));
    const type = this.#buffer[4] as FrameType;
    const limit = this.#accepted.includes(type) ? MAX_BODY[type] : undefined;
    if (limit === undefined || length < 1 || length - 1 > limit) {
      throw protocolError("a frame of a type or a length that may not come now");
    }
    if (this.#buffer.length < 4 + length) {
      return null;
    }
    const body = owned(this.#buffer.subarray(HEADER_BYTES, 4 + length));
    this.#buffer = this.#buffer.slice(4 + length);
    return { type, body };
  }
}

/** Write what stands before a body of that size. */
export function frameHeader(type: FrameType, size: number): Bytes {
  return concat(uint(1 + size, 4), Uint8Array.of(type));
}

/** Write `u16 version | 32 bytes nonce`, which the transcript hashes. */
export function challengeBody(nonce: Bytes): Bytes {
  return concat(uint(VERSION, 2), nonce);
}

export interface Evidence {
  document: Bytes;
  keyConfig: Bytes;
  body: Bytes;
}

/** Read the evidence; nothing of it is verified.
 *
 * @throws SessionError `protocol`.
 */
export function parseEvidence(body: Bytes): Evidence {
  const end = 2 + readUint(body.subarray(0, 2));
  const rest = body.length - end;
  if (end <= 2 || end > 2 + MAX_DOCUMENT_BYTES || rest <= 0 || rest > MAX_KEY_CONFIG_BYTES) {
    throw protocolError("the document or the key configuration is missing or too long");
  }
  return { document: body.slice(2, end), keyConfig: body.slice(end), body };
}

export interface Answer {
  requestId: Bytes;
  kind: number;
  ciphertext: Bytes;
}

/** Read an answer, which is still sealed.
 *
 * @throws SessionError `protocol`.
 */
export function parseAnswer(body: Bytes): Answer {
  const kind = body[REQUEST_ID_BYTES];
  if (body.length !== MAX_BODY[FrameType.Answer] || (kind !== 0 && kind !== 1)) {
    throw protocolError("an answer of another length or kind");
  }
  const ciphertext = body.slice(REQUEST_ID_BYTES + 1);
  return { requestId: body.slice(0, REQUEST_ID_BYTES), kind, ciphertext };
}

// NOT_READY, which only the release port says.
const LAST_REFUSAL = 9;

export interface Refusal {
  code: number;
  requestId: Bytes;
}

/** Read a refusal: in the clear and unauthenticated, so it can only say no.
 *
 * @throws SessionError `protocol`.
 */
export function parseRefusal(body: Bytes): Refusal {
  const code = readUint(body.subarray(0, 2));
  if (body.length !== 2 + REQUEST_ID_BYTES || code < 1 || code > LAST_REFUSAL) {
    throw protocolError("a refusal of another length or code");
  }
  return { code, requestId: body.slice(2) };
}

/** Hash both opening messages, each behind its length. */
export function transcriptHash(challenge: Bytes, evidence: Bytes): Bytes {
  const label = utf8("enclavectl transcript v1");
  return owned(
    sha384(concat(label, uint(challenge.length, 4), challenge, uint(evidence.length, 4), evidence)),
  );
}

/** Name the session: it follows from the client's nonce, so no relay can choose it. */
export function sessionId(transcript: Bytes): Bytes {
  return sha384(concat(utf8("enclavectl session v1"), transcript)).slice(0, SESSION_ID_BYTES) as Bytes;
}

export function requestId(session: Bytes, counter: number): Bytes {
  return concat(session, uint(counter, 8));
}

/** Hash a key configuration to what the document's user data must be. */
export function keyConfigDigest(keyConfig: Bytes): Bytes {
  return owned(sha384(concat(utf8("enclavectl key configuration v1"), keyConfig)));
}

export function protocolError(problem: string): SessionError {
  return new SessionError("protocol", problem);
}
