/**
 * HPKE (RFC 9180) in base mode, single shot, as a sender: HKDF-SHA256 and AES-256-GCM behind one of two KEMs.
 *
 * Suite 1 is X-Wing (draft-connolly-cfrg-xwing-kem): ML-KEM-768 and X25519, because a picture recorded today
 * must stay private when large quantum computers exist. Suite 2 is X25519.
 */

import { x25519 } from "@noble/curves/ed25519.js";
import { expand, extract } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { sha3_256 } from "@noble/hashes/sha3.js";
import { ml_kem768 } from "@noble/post-quantum/ml-kem.js";
import { type Bytes, concat, fromHex, owned, uint, utf8 } from "./bytes.ts";

export type Suite = 1 | 2;

const MLKEM_BYTES = 1184;
export const KEY_BYTES: Record<Suite, number> = { 1: MLKEM_BYTES + 32, 2: 32 };
const KEM_ID: Record<Suite, number> = { 1: 0x647a, 2: 0x0020 };
const KDF_ID = 1;
const AEAD_ID = 2;
const KEY = 32;
const NONCE = 12;
const EMPTY = new Uint8Array(0);
const XWING_LABEL = fromHex("5c2e2f2f5e5c");

export interface SealedMessage {
  /** The KEM's part; the ciphertext follows it on the wire. */
  enc: Bytes;
  ciphertext: Bytes;
}

/** Seal to a public key; there is no associated data.
 *
 * @throws Error if the bytes are no key of the suite.
 */
export async function seal(
  suite: Suite,
  publicKey: Bytes,
  info: Bytes,
  plaintext: Bytes,
): Promise<SealedMessage> {
  const { enc, secret } = suite === 1 ? encapsulateXWing(publicKey) : encapsulateX25519(publicKey);
  const { key, nonce } = keySchedule(suite, secret, info);
  const aes = await crypto.subtle.importKey("raw", key, "AES-GCM", false, ["encrypt"]);
  const ciphertext = await crypto.subtle.encrypt({ name: "AES-GCM", iv: nonce }, aes, plaintext);
  return { enc, ciphertext: new Uint8Array(ciphertext) };
}

/** Derive the key and the nonce of the one message (RFC 9180 section 5.1, base mode). */
export function keySchedule(suite: Suite, secret: Bytes, info: Bytes): { key: Bytes; nonce: Bytes } {
  const id = concat(utf8("HPKE"), uint(KEM_ID[suite], 2), uint(KDF_ID, 2), uint(AEAD_ID, 2));
  const pskHash = labeledExtract(id, EMPTY, "psk_id_hash", EMPTY);
  const infoHash = labeledExtract(id, EMPTY, "info_hash", info);
  const context = concat(Uint8Array.of(0), pskHash, infoHash);
  const prk = labeledExtract(id, secret, "secret", EMPTY);
  return {
    key: labeledExpand(id, prk, "key", context, KEY),
    nonce: labeledExpand(id, prk, "base_nonce", context, NONCE),
  };
}

interface Ephemeral {
  secret: Uint8Array;
  enc: Bytes;
}

let prepared: Ephemeral | null = null;

/** Make the ephemeral key of the next message, at a time when nobody waits for it. */
export function prepareSealing(): void {
  prepared ??= newEphemeral();
}

/** Each serves one message. */
function takeEphemeral(): Ephemeral {
  const taken = prepared ?? newEphemeral();
  prepared = null;
  return taken;
}

function newEphemeral(): Ephemeral {
  const secret = x25519.utils.randomSecretKey();
  return { secret, enc: owned(x25519.getPublicKey(secret)) };
}

function encapsulateXWing(publicKey: Bytes): { enc: Bytes; secret: Bytes } {
  const latticeKey = publicKey.subarray(0, MLKEM_BYTES);
  const curveKey = publicKey.subarray(MLKEM_BYTES);
  const lattice = ml_kem768.encapsulate(latticeKey);
  const ephemeral = takeEphemeral();
  const shared = x25519.getSharedSecret(ephemeral.secret, curveKey);
  const secret = combineXWing(lattice.sharedSecret, shared, ephemeral.enc, curveKey);
  return { enc: concat(lattice.cipherText, ephemeral.enc), secret };
}

/** Combine both secrets (draft-connolly-cfrg-xwing-kem section 5.3). */
export function combineXWing(
  lattice: Uint8Array,
  curve: Uint8Array,
  enc: Uint8Array,
  key: Uint8Array,
): Bytes {
  return owned(sha3_256(concat(lattice, curve, enc, key, XWING_LABEL)));
}

function encapsulateX25519(publicKey: Bytes): { enc: Bytes; secret: Bytes } {
  const { secret, enc } = takeEphemeral();
  const shared = x25519.getSharedSecret(secret, publicKey);
  return { enc, secret: extractX25519(shared, enc, publicKey) };
}

/** ExtractAndExpand of DHKEM(X25519, HKDF-SHA256) (RFC 9180 section 4.1). */
export function extractX25519(shared: Uint8Array, enc: Uint8Array, publicKey: Uint8Array): Bytes {
  const id = concat(utf8("KEM"), uint(KEM_ID[2], 2));
  const prk = labeledExtract(id, EMPTY, "eae_prk", shared);
  return labeledExpand(id, prk, "shared_secret", concat(enc, publicKey), KEY);
}

function labeledExtract(id: Bytes, salt: Uint8Array, label: string, input: Uint8Array): Bytes {
  return owned(extract(sha256, concat(utf8("HPKE-v1"), id, utf8(label), input), salt));
}

function labeledExpand(id: Bytes, prk: Bytes, label: string, info: Bytes, size: number): Bytes {
  const labeled = concat(uint(size, 2), utf8("HPKE-v1"), id, utf8(label), info);
  return owned(expand(sha256, prk, labeled, size));
}
