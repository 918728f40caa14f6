/** What goes wrong. The codes are those of the Python client, so that one manual explains both. */

/** Evidence, or a receipt, that does not prove what it must. Nothing may be sent to its enclave. */
export class EvidenceRefused extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** A conversation that did not work out: the session is over. */
export class SessionError extends Error {
  readonly code: SessionCode;

  constructor(code: SessionCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** `busy`, `stopping` and `lost` may pass; the others do not. */
export type SessionCode =
  | "unreachable"
  | "lost"
  | "busy"
  | "stopping"
  | "slow"
  | "timeout"
  | "version"
  | "no-evidence"
  | "refused"
  | "protocol";

export function refused(code: string, message: string): EvidenceRefused {
  return new EvidenceRefused(code, message);
}
