/** One X.509 certificate of the Nitro PKI: strict DER, version 3, a P-384 key, ecdsa-with-SHA384. */

import { type Bytes, concat, equal, fromHex, isZero, owned, startsWith } from "./bytes.ts";
import {
  all,
  bitString,
  checkNameValue,
  DerError,
  type Element,
  Elements,
  integer,
  nameText,
  oid,
  only,
  smallUint,
  Tag,
  time,
} from "./der.ts";
import { type EvidenceRefused, refused } from "./errors.ts";
import { type Extensions, parseExtensions } from "./extensions.ts";

// AlgorithmIdentifier of ecdsa-with-SHA384 (RFC 5758 section 3.2): an OID and no parameters.
const ECDSA_SHA384 = fromHex("300a06082a8648ce3d040303");
const ECDSA_OIDS = "1.2.840.10045.4.";
// SubjectPublicKeyInfo of a P-384 key, its curve by name, its point uncompressed (RFC 5480 section 2).
const P384_PREFIX = fromHex("3076301006072a8648ce3d020106052b8104002203620004");
const EC_KEY = "1.2.840.10045.2.1";
const P384 = "1.3.132.0.34";
// Bytes of a coordinate on other curves by name: such a key is readable, and of the wrong kind.
const OTHER_CURVES: Record<string, number> = {
  "1.2.840.10045.3.1.7": 32,
  "1.3.132.0.10": 32,
  "1.3.132.0.35": 66,
};
// Bytes of other raw keys: X25519, X448, Ed25519, Ed448 (RFC 8410).
const RAW_KEYS: Record<string, number> = {
  "1.3.101.110": 32,
  "1.3.101.111": 56,
  "1.3.101.112": 32,
  "1.3.101.113": 57,
};
const RSA_KEY = "1.2.840.113549.1.1.1";
const COMMON_NAME = "2.5.4.3";
// r and s of P-384 in DER.
const MAX_SIGNATURE_BYTES = 104;

export interface Certificate {
  where: string;
  extensions: Extensions;
  key: CryptoKey;
  /** The signed part, as it came. */
  signed: Bytes;
  /** The signature, in DER. */
  signature: Bytes;
  issuer: Bytes;
  subject: Bytes;
  /** Milliseconds since 1970, both inclusive. */
  notBefore: number;
  notAfter: number;
}

/** Read a certificate and check every rule that needs no other certificate.
 *
 * @throws EvidenceRefused `chain-certificate`, `chain-algorithm` or `chain-constraint`.
 */
export async function parseCertificate(der: Bytes, where: string): Promise<Certificate> {
  try {
    return await parse(der, where);
  } catch (error) {
    if (error instanceof DerError) {
      throw refused("chain-certificate", `${where}: expected a DER certificate (${error.message})`);
    }
    throw error;
  }
}

async function parse(der: Bytes, where: string): Promise<Certificate> {
  const outer = new Elements(only(der, Tag.Sequence).content);
  const signed = outer.next(Tag.Sequence);
  const algorithm = outer.next(Tag.Sequence);
  checkAlgorithmForm(algorithm);
  const signature = bitString(outer.next(Tag.BitString).content);
  outer.end();
  const fields = parseSigned(signed.content);
  const extensions = parseExtensions(fields.extensions);
  const key = await readKey(fields.publicKey);
  // No certificate of a P-384 key is small enough for a shorter header.
  if (der[1] !== 0x82 || isZero(fields.serial) || (fields.serial[0] as number) >= 128) {
    throw new DerError("the length's form, or a serial number that is not positive");
  }
  if (!equal(algorithm.raw, ECDSA_SHA384) || !equal(fields.algorithm.raw, ECDSA_SHA384)) {
    throw algorithmError(where, "ecdsa-with-SHA384, named alike inside and outside");
  }
  if (signature.unused !== 0 || signature.octets.length > MAX_SIGNATURE_BYTES) {
    throw new DerError("a signature that is not whole octets, or too long");
  }
  if (key === null || !startsWith(fields.publicKey.raw, P384_PREFIX)) {
    throw algorithmError(where, "a P-384 key, its curve by name and its point uncompressed");
  }
  if (extensions.unknownCritical !== null) {
    throw refused("chain-constraint", `${where}: critical extension ${extensions.unknownCritical}`);
  }
  return {
    where,
    extensions,
    key,
    signed: owned(signed.raw),
    signature: owned(signature.octets),
    issuer: owned(fields.issuer.raw),
    subject: owned(fields.subject.raw),
    notBefore: fields.notBefore,
    notAfter: fields.notAfter,
  };
}

interface SignedFields {
  serial: Uint8Array;
  algorithm: Element;
  issuer: Element;
  notBefore: number;
  notAfter: number;
  subject: Element;
  publicKey: Element;
  extensions: Uint8Array;
}

/** Split the signed part of a version 3 certificate (RFC 5280 section 4.1). */
function parseSigned(content: Uint8Array): SignedFields {
  const parts = new Elements(content);
  const version = parts.next(0xa0);
  if (smallUint(only(version.content, Tag.Integer).content) !== 2) {
    throw new DerError("expected X.509 v3");
  }
  const serial = integer(parts.next(Tag.Integer).content);
  const algorithm = parts.next(Tag.Sequence);
  checkAlgorithmForm(algorithm);
  const issuer = parts.next(Tag.Sequence);
  checkName(issuer);
  const validity = all(parts.next(Tag.Sequence).content);
  const [begin, end] = validity;
  if (begin === undefined || end === undefined || validity.length !== 2) {
    throw new DerError("expected two times");
  }
  const subject = parts.next(Tag.Sequence);
  checkName(subject);
  const publicKey = parts.next(Tag.Sequence);
  for (const tag of [0x81, 0x82]) {
    const unique = parts.optional(tag);
    if (unique !== null) {
      bitString(unique.content);
    }
  }
  const wrapped = parts.optional(0xa3);
  const extensions = wrapped === null ? new Uint8Array(0) : only(wrapped.content, Tag.Sequence).content;
  parts.end();
  return {
    serial,
    algorithm,
    issuer,
    notBefore: time(begin),
    notAfter: time(end),
    subject,
    publicKey,
    extensions,
  };
}

/** Check an AlgorithmIdentifier: an OID, perhaps parameters, and none for ECDSA. */
function checkAlgorithmForm(element: Element): { id: string; parameters: Element | null } {
  if (element.tag !== Tag.Sequence) {
    throw new DerError("expected an algorithm");
  }
  const parts = new Elements(element.content);
  const id = oid(parts.next(Tag.Oid).content);
  const parameters = parts.isAtEnd ? null : parts.next();
  parts.end();
  if (id.startsWith(ECDSA_OIDS) && parameters !== null) {
    throw new DerError("an ECDSA algorithm with parameters");
  }
  return { id, parameters };
}

/** Split a Name into its attributes: the type and the value of each. */
function nameParts(name: Element): { id: string; value: Element }[] {
  return all(name.content).flatMap((set) => {
    if (set.tag !== Tag.Set) {
      throw new DerError("expected a set of a name's parts");
    }
    return all(set.content).map((part) => {
      if (part.tag !== Tag.Sequence) {
        throw new DerError("expected a name's part");
      }
      const fields = new Elements(part.content);
      const id = oid(fields.next(Tag.Oid).content);
      const value = fields.next();
      fields.end();
      return { id, value };
    });
  });
}

/** Check the form of a name. It is compared as bytes, so its text is not read. */
function checkName(name: Element): void {
  for (const { value } of nameParts(name)) {
    checkNameValue(value);
  }
}

/** Read the common names of a certificate's subject. Only the leaf's are asked for.
 *
 * @throws EvidenceRefused `chain-certificate`.
 */
export function commonNames(certificate: Certificate): string[] {
  try {
    return readCommonNames(certificate.subject);
  } catch (error) {
    if (error instanceof DerError) {
      throw refused(
        "chain-certificate",
        `${certificate.where}: expected a readable subject (${error.message})`,
      );
    }
    throw error;
  }
}

function readCommonNames(subject: Bytes): string[] {
  const texts = nameParts(only(subject, Tag.Sequence)).map(({ id, value }) => ({
    id,
    text: nameText(value),
  }));
  return texts.filter(({ id }) => id === COMMON_NAME).map(({ text }) => text);
}

/** Read a public key: null for one that is readable and not of P-384.
 *
 * @throws DerError for one that nobody can read.
 */
async function readKey(element: Element): Promise<CryptoKey | null> {
  const parts = new Elements(element.content);
  const { id, parameters } = checkAlgorithmForm(parts.next(Tag.Sequence));
  const { octets, unused } = bitString(parts.next(Tag.BitString).content);
  parts.end();
  if (unused !== 0) {
    throw new DerError("a key that is not whole octets");
  }
  if (id === EC_KEY && parameters?.tag === Tag.Oid) {
    return readPoint(oid(parameters.content), octets);
  }
  const isRaw = parameters === null && RAW_KEYS[id] === octets.length;
  if (!isRaw && !(id === RSA_KEY && octets[0] === Tag.Sequence)) {
    throw new DerError("a key of an unknown kind");
  }
  return null;
}

async function readPoint(curve: string, point: Uint8Array): Promise<CryptoKey | null> {
  const size = curve === P384 ? 48 : OTHER_CURVES[curve];
  if (size === undefined) {
    throw new DerError("a key on an unknown curve");
  }
  const isCompressed = (point[0] === 2 || point[0] === 3) && point.length === 1 + size;
  if (!isCompressed && !(point[0] === 4 && point.length === 1 + 2 * size)) {
    throw new DerError("a point in another form");
  }
  if (curve !== P384 || isCompressed) {
    return null;
  }
  try {
    const parameters = { name: "ECDSA", namedCurve: "P-384" };
    return await crypto.subtle.importKey("raw", owned(point), parameters, false, ["verify"]);
  } catch {
    throw new DerError("a point that is not on the curve");
  }
}

/** Turn a signature in DER into r and s of 48 bytes each, which WebCrypto takes; null if it is none. */
export function rawSignature(der: Uint8Array): Bytes | null {
  try {
    const parts = new Elements(only(der, Tag.Sequence).content);
    const scalars = [scalar(parts), scalar(parts)];
    parts.end();
    return concat(...scalars);
  } catch (error) {
    if (error instanceof DerError) {
      return null;
    }
    throw error;
  }
}

function scalar(parts: Elements): Bytes {
  const bytes = integer(parts.next(Tag.Integer).content);
  const digits = bytes[0] === 0 ? bytes.subarray(1) : bytes;
  if ((bytes[0] as number) >= 128 || digits.length > 48) {
    throw new DerError("a scalar out of range");
  }
  return concat(new Uint8Array(48 - digits.length), digits);
}

function algorithmError(where: string, expected: string): EvidenceRefused {
  return refused("chain-algorithm", `${where}: expected ${expected}`);
}
