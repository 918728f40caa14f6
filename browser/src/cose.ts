/**
 * The envelope of an attestation document: COSE_Sign1 (RFC 9052 section 4.2) in the one form AWS writes.
 *
 * Signed bytes are verified as received, never decoded and encoded again.
 */

import { type Bytes, concat, equal, fromHex } from "./bytes.ts";
import { asBytes, CborError, DOCUMENT, decode, encode, type Value } from "./cbor.ts";
import { refused } from "./errors.ts";

export const MAX_DOCUMENT_BYTES = 32 * 1024;
const MAX_PAYLOAD_BYTES = 16 * 1024;
const SIGNATURE_BYTES = 96;
const SIGN1_TAG = 18;
// {1: -35}: ES384 and nothing else. Comparing the bytes leaves no second way to name an algorithm.
const ES384_HEADER = fromHex("a1013822");
// The order n of P-384's group (SEC 2, section 2.5.1).
const ORDER = BigInt(
  "0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
);

/** The parts of a well-formed envelope. Nothing is authenticated yet. */
export interface Envelope {
  protectedHeader: Bytes;
  payload: Bytes;
  signature: Bytes;
}

/** Read the envelope, and check every rule that needs no key.
 *
 * @throws EvidenceRefused `size`, `cbor`, `cose-structure` or `cose-algorithm`.
 */
export function parseEnvelope(document: Uint8Array): Envelope {
  if (document.length < 1 || document.length > MAX_DOCUMENT_BYTES) {
    throw refused("size", `document: expected 1 to ${MAX_DOCUMENT_BYTES} bytes, found ${document.length}`);
  }
  const value = decodeOrRefuse(document, "document", SIGN1_TAG);
  if (!Array.isArray(value) || value.length !== 4) {
    throw structure("expected an array of four (COSE_Sign1)");
  }
  const [header, unprotected, content, signed] = value;
  const protectedHeader = asBytes(header);
  const payload = asBytes(content);
  const signature = asBytes(signed);
  if (protectedHeader === null) {
    throw structure("expected the protected header as a byte string");
  }
  // The unprotected header is not signed, so nothing may depend on it.
  if (!(unprotected instanceof Map) || unprotected.size !== 0) {
    throw structure("expected an empty unprotected header");
  }
  if (payload === null || payload.length < 1 || payload.length > MAX_PAYLOAD_BYTES) {
    throw structure(`expected a payload of 1 to ${MAX_PAYLOAD_BYTES} bytes`);
  }
  if (!equal(protectedHeader, ES384_HEADER)) {
    throw refused("cose-algorithm", "protected header: expected ES384 alone");
  }
  if (signature === null || signature.length !== SIGNATURE_BYTES) {
    throw structure(`expected a signature of ${SIGNATURE_BYTES} bytes (r and s, not DER)`);
  }
  return { protectedHeader, payload, signature };
}

/** Decode CBOR of a document.
 *
 * @throws EvidenceRefused `cbor`.
 */
export function decodeOrRefuse(data: Uint8Array, where: string, optionalTag?: number): Value {
  try {
    return decode(data, optionalTag === undefined ? DOCUMENT : { ...DOCUMENT, optionalTag });
  } catch (error) {
    if (error instanceof CborError) {
      throw refused("cbor", `${where}: ${error.message}`);
    }
    throw error;
  }
}

/** Check that the holder of the key signed the envelope. High and low S both count: AWS writes both.
 *
 * @throws EvidenceRefused `signature`.
 */
export async function checkSignature(envelope: Envelope, key: CryptoKey): Promise<void> {
  const half = SIGNATURE_BYTES / 2;
  const scalars = [envelope.signature.subarray(0, half), envelope.signature.subarray(half)];
  if (!scalars.every(isScalar)) {
    throw refused("signature", "signature: r or s is not between 0 and the group order");
  }
  // Sig_structure of RFC 9052 section 4.4, with empty external_aad.
  const signed = concat(
    Uint8Array.of(0x84),
    ...["Signature1", envelope.protectedHeader, new Uint8Array(0), envelope.payload].map((part) =>
      encode(part),
    ),
  );
  if (!(await verifyP384(key, envelope.signature, signed))) {
    throw refused("signature", "signature: the leaf certificate's key did not sign this document");
  }
}

/** True for 0 < scalar < n. */
export function isScalar(bytes: Uint8Array): boolean {
  const value = bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  return value > 0n && value < ORDER;
}

/** Verify ECDSA with SHA-384; the signature is r and s of 48 bytes each. */
export function verifyP384(key: CryptoKey, signature: Bytes, signed: Bytes): Promise<boolean> {
  return crypto.subtle.verify({ name: "ECDSA", hash: "SHA-384" }, key, signature, signed);
}

function structure(problem: string) {
  return refused("cose-structure", `document: ${problem}`);
}
