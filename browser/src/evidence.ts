/** The evidence file that `enclavectl verify` takes: what one session proved, kept for others to judge. */

import { sha256 } from "@noble/hashes/sha2.js";
import { type Bytes, base64, hex, utf8 } from "./bytes.ts";

const SCHEMA = "enclavectl.evidence/1";
/** `enclavectl verify` takes so many receipts in one file. */
const MAX_RECEIPTS = 64;

/** The receipt of an answer, and the statements to which it commits. */
export interface KeptReceipt {
  receipt: Bytes;
  requestStatement: Bytes;
  answerStatement: Bytes;
}

export interface KeptSession {
  document: Bytes;
  keyConfig: Bytes;
  nonce: Bytes;
  /** Milliseconds since 1970. */
  requestedAt: number;
  rootName: string;
  rootSha256: string;
  /** The text of the policy that the session was held to. */
  policy: string;
  receipts: readonly KeptReceipt[];
  tool: string;
}

/**
 * Write a session's files: one, or as many as its receipts need. Each has the document and is judged by itself.
 *
 * Statements let their holder test pictures that they know, so they are left out by default.
 */
export function evidenceFiles(session: KeptSession, withStatements: boolean): string[] {
  const count = Math.max(1, Math.ceil(session.receipts.length / MAX_RECEIPTS));
  return Array.from({ length: count }, (_, index) => {
    const receipts = session.receipts.slice(index * MAX_RECEIPTS, (index + 1) * MAX_RECEIPTS);
    return evidenceFile({ ...session, receipts }, withStatements);
  });
}

function evidenceFile(session: KeptSession, withStatements: boolean): string {
  const members = {
    schema: SCHEMA,
    document: base64(session.document),
    key_config: base64(session.keyConfig),
    nonce: base64(session.nonce),
    requested_at: new Date(session.requestedAt).toISOString().replace("Z", "+00:00"),
    root: { name: session.rootName, sha256: session.rootSha256 },
    lock_sha256: null,
    policy_sha256: hex(sha256(utf8(session.policy))),
    policy: session.policy,
    receipts: session.receipts.map((one) => ({
      receipt: base64(one.receipt),
      request_statement: withStatements ? base64(one.requestStatement) : null,
      answer_statement: withStatements ? base64(one.answerStatement) : null,
    })),
    tool: session.tool,
  };
  const content_sha256 = hex(sha256(utf8(canonical(members))));
  return `${JSON.stringify({ ...members, content_sha256 }, null, 2)}\n`;
}

/** Write JSON with sorted keys, without spaces, in ASCII: the form that the hash is of. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) {
    return `[${value.map(canonical).join(",")}]`;
  }
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${members.map(([key, member]) => `${canonical(key)}:${canonical(member)}`).join(",")}}`;
  }
  return JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
