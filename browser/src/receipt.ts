/**
 * Signed receipts: a strict reader of Attested Inference Receipts (AIR) version 1, as this project's enclaves
 * sign them (docs/protocol.md), in the one encoding of each.
 */

import { ed25519 } from "@noble/curves/ed25519.js";
import { type Bytes, equal, fromHex, isZero, utf8 } from "./bytes.ts";
import { asBytes, CborError, type CborMap, decode, encode, PROTOCOL, type Value } from "./cbor.ts";
import { refused } from "./errors.ts";

const MAX_RECEIPT_BYTES = 65_536;
const TAG = 0xd2;
const PROTECTED = fromHex("a2012703183d");
const PROFILE = "https://spec.cyntrisec.com/air/v1";
const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;
const REGISTER_BYTES = 48;
const REGISTERS = [0, 1, 2, 3, 4, 8];
const MANDATORY_REGISTERS = [0, 1, 2];
// The last second of the year 9999.
const LAST_SECOND = 253_402_300_799;

enum Claim {
  Iss = 1,
  Iat = 6,
  Cti = 7,
  Nonce = 10,
  Profile = 265,
  ModelId = -65537,
  ModelVersion = -65538,
  ModelHash = -65539,
  RequestHash = -65540,
  ResponseHash = -65541,
  DocumentHash = -65542,
  Measurements = -65543,
  PolicyVersion = -65544,
  SequenceNumber = -65545,
  ExecutionTime = -65546,
  MemoryPeak = -65547,
  SecurityMode = -65548,
  HashScheme = -65549,
}
const CLAIMS = Object.values(Claim).filter((label): label is Claim => typeof label === "number");
const OPTIONAL = [Claim.Nonce, Claim.HashScheme];

/** The claims of a receipt. The author of the bytes chose every value. */
export interface Receipt {
  /** Seconds since 1970. */
  issuedAt: number;
  nonce: Bytes | null;
  modelId: string;
  modelHash: Bytes;
  requestHash: Bytes;
  responseHash: Bytes;
  documentHash: Bytes;
  pcrs: ReadonlyMap<number, Bytes>;
  sequenceNumber: number | bigint;
  securityMode: string;
  payload: Bytes;
  signature: Bytes;
}

/** Read a receipt, and check every rule that needs no key and no document.
 *
 * @throws EvidenceRefused with one of the codes of a receipt's bytes or claims.
 */
export function parseReceipt(data: Bytes): Receipt {
  const { payload, signature } = parseEnvelope(data);
  const claims = parseClaims(payload);
  if (text(claims, Claim.Profile, 256) !== PROFILE) {
    throw refused("receipt-profile", `eat_profile: expected ${PROFILE}`);
  }
  const pcrs = measurements(claims);
  text(claims, Claim.Iss, 256);
  const issuedAt = uint(claims, Claim.Iat);
  if (issuedAt === 0) {
    throw refused("claim-zero", "iat: expected a time, found zero");
  }
  if (issuedAt > LAST_SECOND) {
    throw form("iat");
  }
  notZero(claims, Claim.Cti, 16);
  const nonce = optionalNonce(claims);
  const modelId = text(claims, Claim.ModelId, 256);
  text(claims, Claim.ModelVersion, 128);
  const modelHash = notZero(claims, Claim.ModelHash, 32);
  const [requestHash, responseHash, documentHash] = [
    Claim.RequestHash,
    Claim.ResponseHash,
    Claim.DocumentHash,
  ].map((claim) => byteString(claims, claim, 32)) as [Bytes, Bytes, Bytes];
  text(claims, Claim.PolicyVersion, 256);
  const sequenceNumber = uint(claims, Claim.SequenceNumber);
  uint(claims, Claim.ExecutionTime);
  uint(claims, Claim.MemoryPeak);
  const securityMode = text(claims, Claim.SecurityMode, 256);
  if (securityMode !== "production" && securityMode !== "evaluation") {
    throw refused("security-mode", "security_mode: expected production or evaluation");
  }
  checkScheme(claims);
  return {
    issuedAt: Number(issuedAt),
    nonce,
    modelId,
    modelHash,
    requestHash,
    responseHash,
    documentHash,
    pcrs,
    sequenceNumber,
    securityMode,
    payload,
    signature,
  };
}

/** Check that the holder of the document's key signed the receipt (RFC 8032, strict).
 *
 * @throws EvidenceRefused `no-receipt-key` or `receipt-signature`.
 */
export function checkReceiptSignature(receipt: Receipt, publicKey: Bytes | null): void {
  if (publicKey?.length !== KEY_BYTES || hasSmallOrder(publicKey)) {
    throw refused("no-receipt-key", "public_key: expected an Ed25519 key of 32 bytes");
  }
  const signed = encode(["Signature1", PROTECTED, new Uint8Array(0), receipt.payload]);
  const { signature } = receipt;
  // A point of small order lets one signature fit many messages. zip215 would let it pass.
  const isWeak = hasSmallOrder(signature.subarray(0, 32));
  if (isWeak || !ed25519.verify(signature, signed, publicKey, { zip215: false })) {
    throw refused("receipt-signature", "signature: the document's key did not sign this receipt");
  }
}

function hasSmallOrder(point: Uint8Array): boolean {
  try {
    return ed25519.Point.fromBytes(point, true).isSmallOrder();
  } catch {
    return false; // no point at all: the signature's check refuses it
  }
}

function parseEnvelope(data: Bytes): { payload: Bytes; signature: Bytes } {
  if (data.length < 1 || data.length > MAX_RECEIPT_BYTES) {
    throw refused("receipt-size", `receipt: expected 1 to ${MAX_RECEIPT_BYTES} bytes`);
  }
  if (data[0] !== TAG) {
    throw refused("receipt-tag", "receipt: expected the tag of COSE_Sign1");
  }
  const value = decodeOrRefuse(data.subarray(1));
  const [header, unprotected, content, signed] = Array.isArray(value) && value.length === 4 ? value : [];
  const [protectedHeader, payload, signature] = [header, content, signed].map(asBytes);
  const isEmpty = unprotected instanceof Map && unprotected.size === 0;
  if (!protectedHeader || !payload || signature?.length !== SIGNATURE_BYTES || !isEmpty) {
    throw structure("expected an array of header, empty map, payload and signature");
  }
  if (!equal(protectedHeader, PROTECTED)) {
    throw refused("receipt-algorithm", "protected header: expected EdDSA and application/cwt");
  }
  checkEncoding(value, data.subarray(1));
  return { payload, signature };
}

function parseClaims(payload: Bytes): CborMap {
  const value = decodeOrRefuse(payload);
  if (!(value instanceof Map)) {
    throw structure("expected a map of claims");
  }
  const missing = CLAIMS.find((claim) => !value.has(claim) && !OPTIONAL.includes(claim));
  if (missing !== undefined) {
    throw refused("claim-missing", `payload: missing ${Claim[missing]}`);
  }
  if ([...value.keys()].some((key) => !CLAIMS.includes(key as Claim))) {
    throw refused("claim-unknown", "payload: a claim that this format does not have");
  }
  checkEncoding(value, payload);
  return value;
}

function decodeOrRefuse(data: Uint8Array): Value {
  try {
    return decode(data, PROTOCOL);
  } catch (error) {
    if (error instanceof CborError) {
      throw refused("receipt-cbor", `receipt: ${error.message}`);
    }
    throw error;
  }
}

function checkEncoding(value: Value, data: Uint8Array): void {
  if (!equal(encode(value), data)) {
    throw refused("receipt-encoding", "receipt: expected shortest heads and sorted keys");
  }
}

function text(claims: CborMap, claim: Claim, limit: number): string {
  const value = claims.get(claim);
  if (typeof value !== "string" || utf8(value).length > limit) {
    throw form(Claim[claim]);
  }
  return value;
}

function uint(claims: CborMap, claim: Claim): number | bigint {
  const value = claims.get(claim);
  if ((typeof value !== "number" && typeof value !== "bigint") || value < 0) {
    throw form(Claim[claim]);
  }
  return value;
}

function byteString(claims: CborMap, claim: Claim, size: number): Bytes {
  const value = asBytes(claims.get(claim));
  if (value?.length !== size) {
    throw form(Claim[claim]);
  }
  return value;
}

function notZero(claims: CborMap, claim: Claim, size: number): Bytes {
  const value = byteString(claims, claim, size);
  if (isZero(value)) {
    throw refused("claim-zero", `${Claim[claim]}: expected a value, found zeros`);
  }
  return value;
}

function optionalNonce(claims: CborMap): Bytes | null {
  if (!claims.has(Claim.Nonce)) {
    return null;
  }
  const value = asBytes(claims.get(Claim.Nonce));
  if (value === null || value.length < 8 || value.length > 64) {
    throw form("eat_nonce");
  }
  return value;
}

function checkScheme(claims: CborMap): void {
  const schemes = ["sha256-single", "sha256-concat", "sha256-manifest"];
  if (claims.has(Claim.HashScheme) && !schemes.includes(text(claims, Claim.HashScheme, 256))) {
    throw refused("hash-scheme", "model_hash_scheme: expected a known one");
  }
}

/** Read the registers of a Nitro enclave by index. Of another platform's there is no document here. */
function measurements(claims: CborMap): ReadonlyMap<number, Bytes> {
  const value = claims.get(Claim.Measurements);
  if (!(value instanceof Map)) {
    throw form("enclave_measurements");
  }
  if (value.get("measurement_type") !== "nitro-pcr") {
    throw refused("receipt-measurements", "measurement_type: expected nitro-pcr");
  }
  const pcrs = new Map<number, Bytes>();
  for (const [name, register] of value) {
    const index = REGISTERS.find((one) => name === `pcr${one}`);
    const bytes = asBytes(register);
    if (index !== undefined && bytes?.length === REGISTER_BYTES) {
      pcrs.set(index, bytes);
    } else if (name !== "measurement_type") {
      throw refused("receipt-measurements", `enclave_measurements: ${String(name)}`);
    }
  }
  if (MANDATORY_REGISTERS.some((index) => !pcrs.has(index))) {
    throw refused("receipt-measurements", "enclave_measurements: expected pcr0, pcr1 and pcr2");
  }
  return pcrs;
}

function form(claim: string | undefined) {
  return refused("claim-form", `${claim}: a value of another type or size`);
}

function structure(problem: string) {
  return refused("receipt-structure", `receipt: ${problem}`);
}
