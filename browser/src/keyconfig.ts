/** The key configuration, to which the attestation document commits: the suites' keys and the model card. */

import { type Bytes, equal } from "./bytes.ts";
import { type ModelCard, modelRegister, parseCard } from "./card.ts";
import { asBytes, CborError, type CborMap, decode, encode, PROTOCOL, type Value } from "./cbor.ts";
import { type EvidenceRefused, refused } from "./errors.ts";
import { KEY_BYTES, type Suite } from "./hpke.ts";
import { JsonError } from "./json.ts";
import { VERSION } from "./wire.ts";

const FIELDS = ["version", "keys", "card", "salt"];
const SALT_BYTES = 16;

export interface KeyConfig {
  keys: ReadonlyMap<Suite, Bytes>;
  card: ModelCard;
  /** What PCR16 must hold for this card. */
  register: Bytes;
}

/** Read the key configuration. Call it only with attested bytes.
 *
 * @throws EvidenceRefused `key-config`.
 */
export function parseKeyConfig(data: Bytes): KeyConfig {
  try {
    const fields = readFields(data, FIELDS);
    if (
      fields === null ||
      fields.get("version") !== VERSION ||
      asBytes(fields.get("salt"))?.length !== SALT_BYTES
    ) {
      throw form("a field");
    }
    const card = asBytes(fields.get("card"));
    if (card === null) {
      throw form("card");
    }
    return { keys: parseKeys(fields.get("keys")), card: parseCard(card), register: modelRegister(card) };
  } catch (error) {
    if (error instanceof CborError || error instanceof JsonError) {
      throw form(error.message);
    }
    throw error;
  }
}

/** Decode the map with exactly these keys in its one deterministic encoding; null for anything else.
 *
 * @throws CborError for what is not CBOR.
 */
export function readFields(data: Bytes, names: readonly string[]): CborMap | null {
  const value = decode(data, PROTOCOL);
  const isMap = value instanceof Map && value.size === names.length && names.every((name) => value.has(name));
  return isMap && equal(encode(value), data) ? value : null;
}

function parseKeys(value: Value | undefined): ReadonlyMap<Suite, Bytes> {
  const keys = new Map<Suite, Bytes>();
  for (const [suite, key] of value instanceof Map ? value : []) {
    const bytes = asBytes(key);
    if ((suite !== 1 && suite !== 2) || bytes === null) {
      throw form("keys");
    }
    keys.set(suite, bytes);
  }
  if (keys.size === 0) {
    throw form("keys");
  }
  return keys;
}

/** Choose the best suite that the enclave offers, in attested bytes; ids are in the order of preference.
 *
 * @throws EvidenceRefused `key-config` if its key is no key.
 */
export function chooseKey(config: KeyConfig): { suite: Suite; key: Bytes } {
  const suite = Math.min(...config.keys.keys()) as Suite;
  const key = config.keys.get(suite) as Bytes;
  if (key.length !== KEY_BYTES[suite]) {
    throw form(`the key of suite ${suite}`);
  }
  return { suite, key };
}

function form(what: string): EvidenceRefused {
  return refused("key-config", `key configuration: attested, but not of protocol version 1 (${what})`);
}
