/** The extensions of a certificate (RFC 5280 section 4.2): which are there, and what the chain needs of them. */

import {
  all,
  bitString,
  boolean,
  DerError,
  type Element,
  Elements,
  oid,
  only,
  smallUint,
  Tag,
} from "./der.ts";

import { checkForm, checkGeneralNames } from "./forms.ts";

const BASIC_CONSTRAINTS = "2.5.29.19";
const KEY_USAGE = "2.5.29.15";
const AUTHORITY_KEY = "2.5.29.35";
const SUBJECT_KEY = "2.5.29.14";
/** The critical extensions that the chain processes. */
const PROCESSED = [BASIC_CONSTRAINTS, KEY_USAGE];
export interface Extensions {
  basicConstraints: { isCritical: boolean; isCa: boolean; pathLength: number | null } | null;
  keyUsage: { digitalSignature: boolean; keyCertSign: boolean } | null;
  authorityKeyId: Uint8Array | null;
  subjectKeyId: Uint8Array | null;
  /** A critical extension that the chain does not process. */
  unknownCritical: string | null;
}

/** Read the extensions.
 *
 * @throws DerError if one is there twice or is malformed.
 */
export function parseExtensions(content: Uint8Array): Extensions {
  const seen = new Set<string>();
  const found: Extensions = {
    basicConstraints: null,
    keyUsage: null,
    authorityKeyId: null,
    subjectKeyId: null,
    unknownCritical: null,
  };
  for (const element of all(content)) {
    const { id, isCritical, value } = parseExtension(element);
    if (seen.has(id)) {
      throw new DerError(`extension ${id} is there twice`);
    }
    seen.add(id);
    read(found, id, isCritical, value);
    if (isCritical && !PROCESSED.includes(id)) {
      found.unknownCritical ??= id;
    }
  }
  return found;
}

function parseExtension(element: Element): { id: string; isCritical: boolean; value: Uint8Array } {
  if (element.tag !== Tag.Sequence) {
    throw new DerError("expected an extension");
  }
  const parts = new Elements(element.content);
  const id = oid(parts.next(Tag.Oid).content);
  const critical = parts.optional(Tag.Boolean);
  // DER leaves out what is the default.
  if (critical !== null && !boolean(critical.content)) {
    throw new DerError("critical: false is written out");
  }
  const value = parts.next(Tag.OctetString).content;
  parts.end();
  return { id, isCritical: critical !== null, value };
}

function read(found: Extensions, id: string, isCritical: boolean, value: Uint8Array): void {
  if (id === BASIC_CONSTRAINTS) {
    found.basicConstraints = { isCritical, ...basicConstraints(value) };
  } else if (id === KEY_USAGE) {
    found.keyUsage = keyUsage(value);
  } else if (id === AUTHORITY_KEY) {
    found.authorityKeyId = authorityKey(value);
  } else if (id === SUBJECT_KEY) {
    found.subjectKeyId = only(value, Tag.OctetString).content;
  } else {
    checkForm(id, value);
  }
}

function basicConstraints(value: Uint8Array): { isCa: boolean; pathLength: number | null } {
  const parts = new Elements(only(value, Tag.Sequence).content);
  const ca = parts.optional(Tag.Boolean);
  const length = parts.optional(Tag.Integer);
  parts.end();
  if (ca !== null && !boolean(ca.content)) {
    throw new DerError("CA: false is written out");
  }
  const pathLength = length === null ? null : smallUint(length.content);
  if (ca === null && pathLength !== null) {
    throw new DerError("a path length without CA");
  }
  return { isCa: ca !== null, pathLength };
}

function keyUsage(value: Uint8Array): { digitalSignature: boolean; keyCertSign: boolean } {
  const { octets } = bitString(only(value, Tag.BitString).content);
  const has = (bit: number) => ((octets[bit >> 3] ?? 0) & (0x80 >> (bit & 7))) !== 0;
  if ((has(7) || has(8)) && !has(4)) {
    throw new DerError("encipherOnly or decipherOnly without keyAgreement");
  }
  return { digitalSignature: has(0), keyCertSign: has(5) };
}

function authorityKey(value: Uint8Array): Uint8Array | null {
  const parts = new Elements(only(value, Tag.Sequence).content);
  const keyId = parts.optional(0x80);
  const issuer = parts.optional(0xa1);
  const serial = parts.optional(0x82);
  parts.end();
  if ((issuer === null) !== (serial === null)) {
    throw new DerError("an authority's name without its serial number");
  }
  if (issuer !== null) {
    checkGeneralNames(issuer.content);
  }
  return keyId?.content ?? null;
}
