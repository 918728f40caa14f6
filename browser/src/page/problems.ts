/** What went wrong, as one plain sentence and the next step. */

import { EvidenceRefused, SessionError } from "../errors.ts";
import { make } from "./dom.ts";
import type { Say, TextKey } from "./texts/index.ts";

interface Words {
  what: TextKey;
  next: TextKey;
}

const CLOCK: Words = { what: "badClock", next: "badClockNext" };
const PROGRAM: Words = { what: "otherProgram", next: "refusedNext" };
const KEY: Words = { what: "otherKey", next: "refusedNext" };

// What no row names is a forgery, or damage that nobody can tell from one.
const REFUSALS: Readonly<Record<string, Words>> = {
  "chain-not-yet-valid": CLOCK,
  "chain-expired": CLOCK,
  "from-the-future": CLOCK,
  "too-old": CLOCK,
  "no-release": PROGRAM,
  "pcr-missing": PROGRAM,
  "pcr-mismatch": PROGRAM,
  "release-revoked": { what: "revoked", next: "pageOldNext" },
  "release-expired": { what: "pageOld", next: "pageOldNext" },
  "release-not-yet-valid": { what: "notYet", next: "badClockNext" },
  "debug-mode": { what: "debugMode", next: "refusedNext" },
  nonce: { what: "replay", next: "refusedNext" },
  "user-data": KEY,
  "key-config": KEY,
  "model-register": { what: "otherModel", next: "refusedNext" },
};
const GENUINE: Words = { what: "notGenuine", next: "refusedNext" };
const RECEIPT: Words = { what: "badReceipt", next: "refusedNext" };
const RECEIPT_CODES =
  /^(receipt-|claim-|hash-scheme|security-mode|document-mismatch|no-receipt-key|request-mismatch|answer-mismatch)/;

const SESSIONS: Readonly<Record<string, Words>> = {
  unreachable: { what: "unreachable", next: "unreachableNext" },
  lost: { what: "lost", next: "retryNext" },
  busy: { what: "busy", next: "busyNext" },
  stopping: { what: "stopping", next: "busyNext" },
  slow: { what: "timeout", next: "retryNext" },
  timeout: { what: "timeout", next: "retryNext" },
  version: { what: "version", next: "pageOldNext" },
  "no-evidence": { what: "noEvidence", next: "retryNext" },
  refused: { what: "protocol", next: "refusedNext" },
  protocol: { what: "protocol", next: "refusedNext" },
};

export interface Problem {
  what: string;
  next: string;
  code: string;
  /** What was expected and found, for whoever helps. */
  detail: string;
}

/** Put an error into words. */
export function describe(error: unknown, say: Say): Problem {
  const blanks = { now: new Date().toLocaleString(document.documentElement.lang) };
  const { what, next } = wordsOf(error);
  const isKnown = error instanceof EvidenceRefused || error instanceof SessionError;
  return {
    what: say(what, blanks),
    next: say(next),
    code: isKnown ? error.code : "unexpected",
    detail: error instanceof Error ? error.message : "",
  };
}

/** Say who helps, if the page names somebody. */
export function contactLine(contact: string | null, say: Say): HTMLElement[] {
  return contact === null ? [] : [make("p", {}, make("strong", {}, say("contact")), " ", contact)];
}

function wordsOf(error: unknown): Words {
  if (error instanceof EvidenceRefused) {
    return REFUSALS[error.code] ?? (RECEIPT_CODES.test(error.code) ? RECEIPT : GENUINE);
  }
  const words = error instanceof SessionError ? SESSIONS[error.code] : undefined;
  return words ?? { what: "unexpected", next: "unexpectedNext" };
}
