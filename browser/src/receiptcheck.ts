/** The checks that hold a receipt to the session's document, to the question and to the answer. */

import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import type { Outcome } from "./answer.ts";
import { type Bytes, equal, hex, owned, utf8 } from "./bytes.ts";
import { encode } from "./cbor.ts";
import { refused } from "./errors.ts";
import type { KeyConfig } from "./keyconfig.ts";
import { MODEL_PCR } from "./policy.ts";
import { checkReceiptSignature, type Receipt } from "./receipt.ts";
import type { VerifiedDocument } from "./verify.ts";

// Milliseconds. Document and receipt are of one enclave, but the hypervisor has a clock of its own.
const CLOCK_SKEW = 2 * 60 * 1000;

/** What all receipts of a session are held to. */
export interface ReceiptSession {
  document: VerifiedDocument;
  documentBytes: Bytes;
  config: KeyConfig;
}

/** Encode the request as a receipt commits to it. */
export function requestStatement(salt: Bytes, pictureSha256: Bytes, mediaType: string): Bytes {
  return encode(
    new Map<string, Bytes | string>([
      ["salt", salt],
      ["picture", pictureSha256],
      ["media_type", mediaType],
    ]),
  );
}

/** Encode the answer as a receipt commits to it; its salt does not give away the request's. */
export function answerStatement(salt: Bytes, outcome: Bytes): Bytes {
  const answerSalt = owned(hmac(sha256, salt, utf8("enclavectl answer salt v1")));
  return encode(
    new Map([
      ["salt", answerSalt],
      ["outcome", outcome],
    ]),
  );
}

/** Check that the document vouches for the receipt's key, and that both speak of one session.
 *
 * @throws EvidenceRefused with one of the codes of a receipt and its document.
 */
export function checkReceipt(receipt: Receipt, session: ReceiptSession): void {
  const { document, config } = session;
  // 1. The receipt names this document, byte for byte.
  if (!equal(receipt.documentHash, sha256(session.documentBytes))) {
    throw refused("document-mismatch", "document: the receipt names another");
  }
  // 2. The document's public key signed the receipt.
  checkReceiptSignature(receipt, document.publicKey);
  // 3. Its registers are the document's.
  for (const [index, register] of receipt.pcrs) {
    if (!isEqual(document.pcrs.get(index), register)) {
      throw refused("receipt-pcrs", `PCR${index}: the receipt's is not the document's`);
    }
  }
  // 4. It has the nonce of the session. The key configuration was verified with the document.
  if (!isEqual(document.nonce, receipt.nonce)) {
    throw refused("receipt-nonce", "eat_nonce: expected the document's nonce");
  }
  // 5. Its model is the attested card's, and, where the document has PCR16, the model in it.
  const isModel = receipt.modelId === config.card.id && hex(receipt.modelHash) === config.card.sha256;
  const pinned = document.pcrs.get(MODEL_PCR);
  if (!isModel || (pinned !== undefined && !equal(pinned, config.register))) {
    throw refused("receipt-model", "model: expected that of the attested card");
  }
  // 6. Its time is one for which the document vouches.
  const issuedAt = 1000 * receipt.issuedAt;
  if (document.timestamp - issuedAt > CLOCK_SKEW || issuedAt - document.leafNotAfter > CLOCK_SKEW) {
    throw refused("receipt-time", "iat: a time for which the document does not vouch");
  }
  // 7. It claims production under `nitro`, and not under `debug`. A payload in a virtual machine cannot tell.
  const expected = new Map([
    ["nitro", "production"],
    ["debug", "evaluation"],
  ]).get(document.trust);
  if (expected !== undefined && receipt.securityMode !== expected) {
    throw refused("receipt-mode", `security_mode: expected ${expected}`);
  }
}

/** Check that the receipt commits to the question, to the answer, and to one model.
 *
 * @throws EvidenceRefused `request-mismatch` or `answer-mismatch`.
 */
export function checkCommitments(receipt: Receipt, request: Bytes, answer: Bytes, outcome: Outcome): void {
  if (!equal(receipt.requestHash, sha256(request))) {
    throw refused("request-mismatch", "request statement: the receipt is about another question");
  }
  if (!equal(receipt.responseHash, sha256(answer))) {
    throw refused("answer-mismatch", "answer statement: the receipt is about another answer");
  }
  if (outcome.modelId !== receipt.modelId || outcome.modelSha256 !== hex(receipt.modelHash)) {
    throw refused("answer-mismatch", "outcome: expected the receipt's model");
  }
}

function isEqual(a: Bytes | null | undefined, b: Bytes | null): boolean {
  return a != null && b !== null && equal(a, b);
}
