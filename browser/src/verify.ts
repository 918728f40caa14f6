/**
 * The verifier: from bytes and a policy to a verified document, or a refusal. Its steps and its codes are
 * those of the Python client (docs/protocol.md); the code is another.
 *
 * Nothing here reads a clock or the network: time, nonce, root and policy are arguments.
 */

import { type Bytes, equal } from "./bytes.ts";
import { checkLeafName, checkValidity, leafOf, walkChain } from "./chain.ts";
import { checkSignature, parseEnvelope } from "./cose.ts";
import { type Claims, isDebug, parseClaims, type Registers } from "./document.ts";
import { refused } from "./errors.ts";
import { checkDebug, checkSigner, matchRelease, type Policy, type Trust } from "./policy.ts";

export type Step =
  | "signer"
  | "envelope"
  | "payload"
  | "chain"
  | "validity"
  | "signature"
  | "identity"
  | "freshness"
  | "debug"
  | "release"
  | "nonce"
  | "user-data";

export const STEPS: readonly Step[] = [
  "signer",
  "envelope",
  "payload",
  "chain",
  "validity",
  "signature",
  "identity",
  "freshness",
  "debug",
  "release",
  "nonce",
  "user-data",
];

/** One root certificate and the trust in its signatures. */
export interface TrustRoot {
  der: Bytes;
  trust: Trust;
  name: string;
}

/** What a document is held to. `at` is the time of judgement, in milliseconds since 1970. */
export interface Demands {
  root: TrustRoot;
  policy: Policy;
  at: number;
  nonce: Bytes;
  userData: Bytes;
}

/** Evidence that passed. Only `verify` makes one: sealing takes nothing else. */
export class VerifiedDocument {
  /** Makes the type one that no object literal has; there is nothing at run time. */
  declare protected readonly proof: typeof PROOF;
  readonly moduleId: string;
  readonly timestamp: number;
  readonly pcrs: Registers;
  readonly nonce: Bytes;
  readonly userData: Bytes;
  readonly publicKey: Bytes | null;
  readonly trust: Trust;
  /** The name of the release that matched; null for a debug enclave. */
  readonly release: string | null;
  readonly leafNotAfter: number;

  constructor(
    proof: typeof PROOF,
    claims: Claims,
    demands: Demands,
    release: string | null,
    leafNotAfter: number,
  ) {
    if (proof !== PROOF) {
      throw new TypeError("a VerifiedDocument comes from verify() and nowhere else");
    }
    this.moduleId = claims.moduleId;
    this.timestamp = claims.timestamp;
    this.pcrs = claims.pcrs;
    this.nonce = demands.nonce;
    this.userData = demands.userData;
    this.publicKey = claims.publicKey;
    this.trust = isDebug(claims.pcrs) ? "debug" : demands.root.trust;
    this.release = release;
    this.leafNotAfter = leafNotAfter;
  }
}

const PROOF: unique symbol = Symbol("proof");

/** Judge the document with which an enclave answered a challenge. `passed` hears of each step that held.
 *
 * @throws EvidenceRefused at the first broken rule; the step is the one after the last that passed.
 */
export async function verify(
  document: Bytes,
  demands: Demands,
  passed: (step: Step) => void = () => {},
): Promise<VerifiedDocument> {
  const { policy, root, at } = demands;
  // 0. The policy accepts the root's trust.
  checkSigner(policy, root.trust);
  passed("signer");
  // 1. Size, strict CBOR, COSE_Sign1 with ES384 alone.
  const envelope = parseEnvelope(document);
  passed("envelope");
  // 2. The nine fields and no others, types and limits. Not a NitroTPM's.
  const claims = parseClaims(envelope.payload);
  passed("payload");
  // 3. From the pinned root to the leaf, each certificate may issue the next and has signed it.
  const chain = await walkChain(claims.cabundle, claims.certificate, root.der);
  passed("chain");
  // 4. Every certificate is valid now, give or take the clocks' difference.
  checkValidity(chain, at, policy.clockSkew);
  passed("validity");
  // 5. The leaf's key signed the envelope: only now do the claims come from the root's holder.
  const leaf = leafOf(chain);
  await checkSignature(envelope, leaf.key);
  passed("signature");
  // 6. The leaf is this enclave's and was valid at the document's time.
  checkLeafName(chain, claims.moduleId);
  checkLeafTime(claims, leaf, policy.clockSkew);
  passed("identity");
  // 7. Neither from the future nor too old.
  checkFresh(claims, policy, at);
  passed("freshness");
  // 8. Debug mode is off, unless the policy allows it.
  checkDebug(policy, claims.pcrs);
  passed("debug");
  // 9. Every register of one release that is valid now, and nothing revokes them.
  const release = isDebug(claims.pcrs) ? null : matchRelease(policy, claims.pcrs, at).name;
  passed("release");
  // 10. and 11. The nonce and the user data are the expected ones. What is missing satisfies nothing.
  checkEqual("nonce", claims.nonce, demands.nonce);
  passed("nonce");
  checkEqual("user-data", claims.userData, demands.userData);
  passed("user-data");
  return new VerifiedDocument(PROOF, claims, demands, release, leaf.notAfter);
}

function checkLeafTime(claims: Claims, leaf: { notBefore: number; notAfter: number }, skew: number): void {
  if (leaf.notBefore - claims.timestamp > skew || claims.timestamp - leaf.notAfter > skew) {
    throw refused("leaf-time", "timestamp: the leaf certificate was not valid when the document was made");
  }
}

function checkFresh(claims: Claims, policy: Policy, at: number): void {
  const age = at - claims.timestamp;
  if (-age > policy.clockSkew) {
    throw refused("from-the-future", `timestamp: ${-age} ms ahead of this device's clock`);
  }
  if (age > policy.maxAge) {
    throw refused("too-old", `timestamp: ${age} ms old, at most ${policy.maxAge} are allowed`);
  }
}

function checkEqual(code: "nonce" | "user-data", found: Bytes | null, expected: Bytes): void {
  if (found === null || !equal(found, expected)) {
    throw refused(code, `${code}: expected another than the document has`);
  }
}
