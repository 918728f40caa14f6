/**
 * The forms of extensions that the chain does not use. A certificate that breaks one is damaged or forged, so
 * it is refused, as RFC 5280 section 4.2 has it: known extensions are processed or the certificate rejected.
 */

import { all, bitString, DerError, type Element, Elements, integer, oid, only, Tag, time } from "./der.ts";

const FORMS: Record<string, (value: Uint8Array) => void> = {
  // The private key's usage period
  "2.5.29.16": (value) => checkOptional(value, { 128: checkMoment, 129: checkMoment }),
  // Alternative names of subject and issuer
  "2.5.29.17": (value) => checkGeneralNames(only(value, Tag.Sequence).content),
  "2.5.29.18": (value) => checkGeneralNames(only(value, Tag.Sequence).content),
  // Name constraints and policy constraints
  "2.5.29.30": (value) => checkOptional(value, { 160: checkSubtrees, 161: checkSubtrees }),
  "2.5.29.36": (value) => checkOptional(value, { 128: integer, 129: integer }),
  // CRL distribution points and the freshest CRL
  "2.5.29.31": (value) => checkEach(value, checkPoint),
  "2.5.29.46": (value) => checkEach(value, checkPoint),
  // Certificate policies, extended key usage, inhibit anyPolicy
  "2.5.29.32": (value) => checkEach(value, checkPolicy),
  "2.5.29.37": (value) => checkEach(value, ({ tag, content }) => checkTag(tag, Tag.Oid) && oid(content)),
  "2.5.29.54": (value) => integer(only(value, Tag.Integer).content),
  // Information access of authority and subject
  "1.3.6.1.5.5.7.1.1": (value) => checkEach(value, checkAccess),
  "1.3.6.1.5.5.7.1.11": (value) => checkEach(value, checkAccess),
};

/** Check the value of an extension, if it is one whose form is known.
 *
 * @throws DerError
 */
export function checkForm(id: string, value: Uint8Array): void {
  FORMS[id]?.(value);
}

/** Check the content of GeneralNames (RFC 5280 section 4.2.1.6). */
export function checkGeneralNames(content: Uint8Array): void {
  all(content).forEach(checkGeneralName);
}

function checkEach(value: Uint8Array, check: (element: Element) => unknown): void {
  all(only(value, Tag.Sequence).content).forEach(check);
}

function checkTag(found: number, expected: number): true {
  if (found !== expected) {
    throw new DerError(`expected the tag ${expected}, found ${found}`);
  }
  return true;
}

/** Check a sequence of optional elements in the order of their tags. */
function checkOptional(value: Uint8Array, checks: Record<number, (content: Uint8Array) => unknown>): void {
  const parts = new Elements(only(value, Tag.Sequence).content);
  for (const [tag, check] of Object.entries(checks)) {
    const found = parts.optional(Number(tag));
    if (found !== null) {
      check(found.content);
    }
  }
  parts.end();
}

function checkMoment(content: Uint8Array): void {
  time({ tag: Tag.GeneralizedTime, content, raw: content });
}

function checkSubtrees(content: Uint8Array): void {
  for (const subtree of all(content)) {
    checkTag(subtree.tag, Tag.Sequence);
    checkGeneralName(new Elements(subtree.content).next());
  }
}

function checkPolicy(element: Element): void {
  checkTag(element.tag, Tag.Sequence);
  const parts = new Elements(element.content);
  oid(parts.next(Tag.Oid).content);
  parts.optional(Tag.Sequence);
  parts.end();
}

function checkAccess(element: Element): void {
  checkTag(element.tag, Tag.Sequence);
  const parts = new Elements(element.content);
  oid(parts.next(Tag.Oid).content);
  checkGeneralName(parts.next());
  parts.end();
}

/** Check a DistributionPoint (RFC 5280 section 4.2.1.13). */
function checkPoint(element: Element): void {
  if (element.tag !== Tag.Sequence) {
    throw new DerError("expected a distribution point");
  }
  const parts = new Elements(element.content);
  const name = parts.optional(0xa0);
  const reasons = parts.optional(0x81);
  const issuer = parts.optional(0xa2);
  parts.end();
  if (name !== null) {
    const choice = only(name.content);
    if (choice.tag !== 0xa0) {
      throw new DerError("expected a distribution point's full name");
    }
    checkGeneralNames(choice.content);
  }
  if (reasons !== null) {
    bitString(reasons.content);
  }
  if (issuer !== null) {
    checkGeneralNames(issuer.content);
  }
}

// By their tags: other name, e-mail, DNS, X.400, directory, EDI party, URI, address, registered id.
const NAMES: Record<number, (content: Uint8Array) => unknown> = {
  160: checkOtherName,
  129: checkAscii,
  130: checkAscii,
  163: () => {},
  164: (content) => only(content, Tag.Sequence),
  165: () => {},
  134: checkAscii,
  135: () => {},
  136: oid,
};

function checkGeneralName(element: Element): void {
  const check = NAMES[element.tag];
  if (check === undefined) {
    throw new DerError("a general name of an unknown kind");
  }
  check(element.content);
}

function checkOtherName(content: Uint8Array): void {
  const parts = new Elements(content);
  oid(parts.next(Tag.Oid).content);
  only(parts.next(0xa0).content);
  parts.end();
}

function checkAscii(content: Uint8Array): void {
  if (content.some((byte) => byte >= 128)) {
    throw new DerError("a general name that is not ASCII");
  }
}
