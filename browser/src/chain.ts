/**
 * Path validation for the Nitro PKI, from the pinned root to the leaf certificate: RFC 5280 section 6.1
 * without policies, name constraints and CRLs, which this PKI does not use.
 */

import { type Bytes, equal } from "./bytes.ts";
import { verifyP384 } from "./cose.ts";
import { refused } from "./errors.ts";
import { type Certificate, commonNames, parseCertificate, rawSignature } from "./x509.ts";

/** The certificates from the root to the leaf, each signed by the one before. */
export type Chain = readonly Certificate[];

/** Walk from the root over the bundle to the leaf, and check every rule but time.
 *
 * The trust is in `root` itself; each other certificate is untrusted until its issuer has been checked.
 * @throws EvidenceRefused one of the `chain-` codes.
 */
export async function walkChain(cabundle: readonly Bytes[], leaf: Bytes, root: Bytes): Promise<Chain> {
  const [first, ...intermediates] = cabundle;
  if (first === undefined || !equal(first, root)) {
    throw refused("chain-root", "cabundle[0]: expected the root that this page trusts, found another");
  }
  const encoded = [root, ...intermediates, leaf];
  if (encoded.some((one, index) => encoded.slice(0, index).some((earlier) => equal(one, earlier)))) {
    throw refused("chain-structure", "cabundle: a certificate stands in the chain twice");
  }
  const chain: Certificate[] = [];
  for (const [index, der] of encoded.entries()) {
    chain.push(await parseCertificate(der, where(index, encoded.length)));
  }
  for (const [index, link] of chain.slice(0, -1).entries()) {
    checkAuthority(link, chain.length - 2 - index);
  }
  checkLeaf(leafOf(chain));
  for (const [index, child] of chain.entries()) {
    const parent = chain[index - 1];
    if (parent !== undefined) {
      await checkIssued(child, parent);
    }
  }
  return chain;
}

/** The certificate of the enclave; its key signs the documents. */
export function leafOf(chain: Chain): Certificate {
  return chain[chain.length - 1] as Certificate;
}

/** Check that every certificate, the root included, is valid at a time, give or take `skew` (milliseconds).
 *
 * @throws EvidenceRefused `chain-not-yet-valid` or `chain-expired`.
 */
export function checkValidity(chain: Chain, at: number, skew: number): void {
  for (const link of chain) {
    if (link.notBefore - at > skew) {
      throw refused("chain-not-yet-valid", `${link.where}: valid from ${iso(link.notBefore)}`);
    }
    if (at - link.notAfter > skew) {
      throw refused("chain-expired", `${link.where}: valid until ${iso(link.notAfter)}`);
    }
  }
}

/** Check that the leaf was issued to the enclave: AWS names every leaf `<module_id>.<region>.aws`.
 *
 * @throws EvidenceRefused `leaf-name`, or `chain-certificate`: the subject is none.
 */
export function checkLeafName(chain: Chain, moduleId: string): void {
  const names = commonNames(leafOf(chain));
  if (names.length !== 1 || !names[0]?.startsWith(`${moduleId}.`)) {
    throw refused("leaf-name", `leaf certificate: expected a CN that begins with ${moduleId}.`);
  }
}

function where(index: number, count: number): string {
  if (index === count - 1) {
    return "leaf certificate";
  }
  return index === 0 ? "root certificate" : `cabundle[${index}]`;
}

/** Check that a certificate may issue others, with `below` CA certificates between it and the leaf. */
function checkAuthority(link: Certificate, below: number): void {
  const { basicConstraints, keyUsage } = link.extensions;
  if (!basicConstraints?.isCritical || !basicConstraints.isCa) {
    throw constraint(link, "expected critical BasicConstraints with CA=TRUE");
  }
  if (basicConstraints.pathLength !== null && below > basicConstraints.pathLength) {
    throw constraint(link, `pathLen ${basicConstraints.pathLength}, but ${below} CA certificates follow`);
  }
  if (!keyUsage?.keyCertSign) {
    throw constraint(link, "expected KeyUsage with keyCertSign");
  }
}

/** Check that a certificate may sign documents, and no certificates. */
function checkLeaf(link: Certificate): void {
  const { basicConstraints, keyUsage } = link.extensions;
  if (basicConstraints?.isCa) {
    throw constraint(link, "expected CA=FALSE");
  }
  if (!keyUsage?.digitalSignature || keyUsage.keyCertSign) {
    throw constraint(link, "expected KeyUsage with digitalSignature and without keyCertSign");
  }
}

async function checkIssued(child: Certificate, parent: Certificate): Promise<void> {
  // The names as they are encoded: AWS orders the attributes differently from level to level.
  if (!equal(child.issuer, parent.subject)) {
    throw refused("chain-name", `${child.where}: its issuer is not the subject of ${parent.where}`);
  }
  const authority = child.extensions.authorityKeyId;
  const own = parent.extensions.subjectKeyId;
  if (authority !== null && own !== null && !equal(authority, own)) {
    throw refused("chain-name", `${child.where}: its authority key identifier is not ${parent.where}'s`);
  }
  const signature = rawSignature(child.signature);
  if (signature === null || !(await verifyP384(parent.key, signature, child.signed))) {
    throw refused("chain-signature", `${child.where}: not signed by ${parent.where}`);
  }
}

function constraint(link: Certificate, problem: string) {
  return refused("chain-constraint", `${link.where}: ${problem}`);
}

function iso(time: number): string {
  return new Date(time).toISOString();
}
