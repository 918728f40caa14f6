/**
 * The payload of an attestation document: nine fields and their limits.
 *
 * Rules: https://github.com/aws/aws-nitro-enclaves-nsm-api/blob/main/docs/attestation_process.md
 */

import { type Bytes, characters, isPrintable, isZero } from "./bytes.ts";
import { asBytes, type CborMap, type Value } from "./cbor.ts";
import { decodeOrRefuse } from "./cose.ts";
import { refused } from "./errors.ts";

export const PCR_BYTES = 48;
const PCR_COUNT = 32;
const MAX_CERTIFICATE_BYTES = 1024;
// AWS's text gives 512 in one place and 1024 in another; it has signed 746 bytes of user_data.
const MAX_OPTIONAL_BYTES = 1024;
const MAX_CABUNDLE = 10;
// The last millisecond of the year 9999: what the Python client can hold.
const LAST_MILLISECOND = 253_402_300_799_999;
const MANDATORY = ["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"];
const OPTIONAL = ["public_key", "user_data", "nonce"];

export type Registers = ReadonlyMap<number, Bytes>;

/** The unverified content of a document: the author of the bytes chose every value. */
export interface Claims {
  moduleId: string;
  /** Milliseconds since 1970. */
  timestamp: number;
  pcrs: Registers;
  certificate: Bytes;
  cabundle: Bytes[];
  publicKey: Bytes | null;
  userData: Bytes | null;
  nonce: Bytes | null;
}

/** True for the registers of an enclave in debug mode: PCR0, PCR1 and PCR2 are zero, whatever others are. */
export function isDebug(pcrs: Registers): boolean {
  return [0, 1, 2].every((index) => {
    const register = pcrs.get(index);
    return register !== undefined && isZero(register);
  });
}

/** Read the claims of a payload, and check the type and the limit of every field.
 *
 * @throws EvidenceRefused `cbor`, `nitrotpm`, `unknown-field` or `field`.
 */
export function parseClaims(payload: Uint8Array): Claims {
  const fields = decodeOrRefuse(payload, "payload");
  if (!(fields instanceof Map)) {
    throw field("payload", "a map");
  }
  checkNames(fields);
  if (fields.get("digest") !== "SHA384") {
    throw field("digest", "SHA384");
  }
  const moduleId = fields.get("module_id");
  if (typeof moduleId !== "string" || !isName(moduleId)) {
    throw field("module_id", "1 to 256 printable characters");
  }
  const publicKey = optional(fields, "public_key");
  return {
    moduleId,
    timestamp: timestamp(fields.get("timestamp")),
    pcrs: registers(fields.get("pcrs")),
    certificate: sized(fields.get("certificate"), "certificate", 1, MAX_CERTIFICATE_BYTES),
    cabundle: cabundle(fields.get("cabundle")),
    // The NSM signs an empty public_key if it is asked to. No key has zero bytes, so it counts as absent.
    publicKey: publicKey?.length === 0 ? null : publicKey,
    userData: optional(fields, "user_data"),
    nonce: optional(fields, "nonce"),
  };
}

function checkNames(fields: CborMap): void {
  // NitroTPM documents come from the same root and the same instances. Only the payload tells them apart.
  if (fields.has("nitrotpm_pcrs")) {
    throw refused("nitrotpm", "document: expected a Nitro Enclave's, found a NitroTPM one");
  }
  for (const name of fields.keys()) {
    if (typeof name !== "string" || !(MANDATORY.includes(name) || OPTIONAL.includes(name))) {
      throw refused("unknown-field", "payload: a field that this document format does not have");
    }
  }
  const missing = MANDATORY.filter((name) => !fields.has(name));
  if (missing.length > 0) {
    throw refused("field", `payload: missing ${missing.join(", ")}`);
  }
}

function isName(text: string): boolean {
  return text.length > 0 && characters(text) <= 256 && isPrintable(text);
}

function timestamp(value: Value | undefined): number {
  if (typeof value !== "number" || value <= 0 || value > LAST_MILLISECOND) {
    throw field("timestamp", `1 to ${LAST_MILLISECOND} ms since 1970`);
  }
  return value;
}

function registers(value: Value | undefined): Registers {
  if (!(value instanceof Map) || value.size < 1 || value.size > PCR_COUNT) {
    throw field("pcrs", `a map of 1 to ${PCR_COUNT} registers`);
  }
  const pcrs = new Map<number, Bytes>();
  for (const [index, register] of value) {
    if (typeof index !== "number" || index < 0 || index >= PCR_COUNT) {
      throw field("pcrs", `indexes 0 to ${PCR_COUNT - 1}`);
    }
    pcrs.set(index, sized(register, `PCR${index}`, PCR_BYTES, PCR_BYTES));
  }
  return pcrs;
}

function cabundle(value: Value | undefined): Bytes[] {
  if (!Array.isArray(value) || value.length < 1 || value.length > MAX_CABUNDLE) {
    throw field("cabundle", `1 to ${MAX_CABUNDLE} certificates`);
  }
  return value.map((item, index) => sized(item, `cabundle[${index}]`, 1, MAX_CERTIFICATE_BYTES));
}

function optional(fields: CborMap, name: string): Bytes | null {
  // AWS writes null for absent fields, although its text says that no field may be null.
  const value = fields.get(name) ?? null;
  return value === null ? null : sized(value, name, 0, MAX_OPTIONAL_BYTES);
}

function sized(value: Value | undefined, name: string, least: number, most: number): Bytes {
  const bytes = asBytes(value);
  if (bytes === null || bytes.length < least || bytes.length > most) {
    throw field(name, least === most ? `${least} bytes` : `${least} to ${most} bytes`);
  }
  return bytes;
}

function field(name: string, expected: string) {
  return refused("field", `${name}: expected ${expected}`);
}
