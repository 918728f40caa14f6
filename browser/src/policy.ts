/** The trust policy that the page was made with: whose signature counts, and which releases of code. */

import { sha256 } from "@noble/hashes/sha2.js";
import { type Bytes, concat, equal, hex, isZero } from "./bytes.ts";
import { isDebug, PCR_BYTES, type Registers } from "./document.ts";
import { refused } from "./errors.ts";
import * as json from "./json.ts";

/** The enclave extends PCR16 itself, with its model. */
export const MODEL_PCR = 16;
const REQUIRED_PCRS = [0, 1, 2];

/** What evidence is worth, by its signer; `debug` is the word for an enclave that nobody measured. */
export type Trust = "nitro" | "emulated" | "simulated" | "debug";
const SIGNERS: readonly string[] = ["nitro", "emulated", "simulated"];

/** A version of an image. A document must match every register of it. Times are milliseconds since 1970. */
export interface Release {
  name: string;
  pcrs: Registers;
  notBefore: number | null;
  expires: number | null;
}

/** A refusal of code at any time: all of a tuple's registers, or a release's label. */
export interface Revocation {
  name: string | null;
  label: string | null;
  pcrs: Registers | null;
  reason: string;
}

export interface Policy {
  accept: readonly Trust[];
  releases: readonly Release[];
  revoked: readonly Revocation[];
  /** Milliseconds. */
  maxAge: number;
  clockSkew: number;
  allowDebug: boolean;
}

/** Read the policy as the command `page` writes it.
 *
 * @throws JsonError for another form, or a policy that would accept any image.
 */
export function parsePolicy(value: unknown): Policy {
  const top = json.object(value, "policy");
  const accept = json.list(top.accept, "accept").map((one) => {
    if (!SIGNERS.includes(one as string)) {
      throw new json.JsonError("accept: expected nitro, emulated or simulated");
    }
    return one as Trust;
  });
  const policy = {
    accept,
    releases: json.list(top.releases, "releases").map(parseRelease),
    revoked: json.list(top.revoked, "revoked").map(parseRevocation),
    maxAge: 1000 * json.integer(top.max_age_s, "max_age_s", 1, 3 * 3600),
    clockSkew: 1000 * json.integer(top.clock_skew_s, "clock_skew_s", 0, 600),
    allowDebug: json.boolean(top.unsafe_allow_debug, "unsafe_allow_debug"),
  };
  if (accept.length === 0 || (policy.releases.length === 0 && !policy.allowDebug)) {
    throw new json.JsonError("policy: it names no signer or no release");
  }
  return policy;
}

function parseRelease(value: unknown): Release {
  const release = json.object(value, "release");
  const pcrs = parseRegisters(release.pcrs);
  if (REQUIRED_PCRS.some((index) => !pcrs.has(index))) {
    throw new json.JsonError("release: expected PCR0, PCR1 and PCR2");
  }
  return {
    name: json.string(release.name, "name"),
    pcrs,
    notBefore: json.optionalTime(release.not_before, "not_before"),
    expires: json.optionalTime(release.expires, "expires"),
  };
}

function parseRevocation(value: unknown): Revocation {
  const entry = json.object(value, "revoked");
  const label = entry.label === null ? null : json.string(entry.label, "label");
  const pcrs = entry.pcrs === null ? null : parseRegisters(entry.pcrs);
  if ((label === null) === (pcrs === null) || pcrs?.size === 0) {
    throw new json.JsonError("revoked: expected one of label and pcrs");
  }
  const name = entry.name === null ? null : json.string(entry.name, "name");
  return { name, label, pcrs, reason: json.string(entry.reason, "reason") };
}

function parseRegisters(value: unknown): Registers {
  const pcrs = new Map<number, Bytes>();
  for (const [name, register] of Object.entries(json.object(value, "pcrs"))) {
    const bytes = json.hexBytes(register, `PCR${name}`, PCR_BYTES);
    // Zeros measure nothing, and a debug enclave has them.
    if (!/^([0-9]|[12][0-9]|3[01])$/.test(name) || isZero(bytes)) {
      throw new json.JsonError(`PCR${name}: expected PCR0 to PCR31, not zero`);
    }
    pcrs.set(Number(name), bytes);
  }
  return new Map([...pcrs].sort(([a], [b]) => a - b));
}

/** @throws EvidenceRefused `trust-not-accepted`. */
export function checkSigner(policy: Policy, trust: Trust): void {
  if (!policy.accept.includes(trust)) {
    throw refused("trust-not-accepted", `policy: accepts ${policy.accept.join(", ")}, found ${trust}`);
  }
}

/** Check that the enclave is not in debug mode, or that the policy allows debug mode.
 *
 * @throws EvidenceRefused `debug-mode` or `release-revoked`.
 */
export function checkDebug(policy: Policy, pcrs: Registers): void {
  if (!isDebug(pcrs)) {
    return;
  }
  if (!policy.allowDebug) {
    throw refused("debug-mode", "PCR0, PCR1 and PCR2 are all zero: the enclave runs in debug mode");
  }
  checkNotRevoked(policy, pcrs);
}

/** Find the release that matches in every register and is valid at a time.
 *
 * @throws EvidenceRefused `release-revoked`, `no-release`, `pcr-missing`, `pcr-mismatch`,
 *   `release-not-yet-valid` or `release-expired`.
 */
export function matchRelease(policy: Policy, pcrs: Registers, at: number): Release {
  checkNotRevoked(policy, pcrs);
  const ranked = policy.releases.map((release) => ({ release, different: differences(release, pcrs) }));
  // Of those that match, the one that pins most says most; of the others, the nearest is worth naming.
  ranked.sort((a, b) => a.different.length - b.different.length || b.release.pcrs.size - a.release.pcrs.size);
  const matching = ranked.filter((one) => one.different.length === 0).map((one) => one.release);
  const [first] = matching;
  if (first === undefined) {
    throw mismatch(nearest(policy, pcrs), pcrs);
  }
  const valid = matching.find((release) => isValid(release, at));
  if (valid === undefined) {
    const isEarly = first.notBefore !== null && at < first.notBefore;
    throw refused(
      isEarly ? "release-not-yet-valid" : "release-expired",
      `policy: release ${first.name} is ${isEarly ? "not valid yet" : "no longer valid"}`,
    );
  }
  return valid;
}

function nearest(policy: Policy, pcrs: Registers): Release | undefined {
  const ranked = [...policy.releases];
  ranked.sort((a, b) => differences(a, pcrs).length - differences(b, pcrs).length);
  return ranked[0];
}

function mismatch(release: Release | undefined, pcrs: Registers) {
  if (release === undefined) {
    return refused("no-release", "policy: it names no release, and the enclave is not in debug mode");
  }
  const index = differences(release, pcrs)[0] as number;
  const expected = shortened(release.pcrs.get(index));
  const found = pcrs.get(index);
  return refused(
    found === undefined ? "pcr-missing" : "pcr-mismatch",
    `PCR${index}: expected ${expected} of release ${release.name}, found ${shortened(found)}`,
  );
}

function differences(release: Release, pcrs: Registers): number[] {
  return [...release.pcrs]
    .filter(([index, value]) => !isEqual(pcrs.get(index), value))
    .map(([index]) => index);
}

/** The release is valid from `notBefore` on and before `expires`. Clock skew does not lengthen its life. */
export function isValid(release: Release, at: number): boolean {
  return (
    (release.notBefore === null || at >= release.notBefore) &&
    (release.expires === null || at < release.expires)
  );
}

/** True if no release of the policy can match any more: the page itself is too old. */
export function isOver(policy: Policy, at: number): boolean {
  return (
    policy.releases.length > 0 && policy.releases.every((one) => one.expires !== null && at >= one.expires)
  );
}

function checkNotRevoked(policy: Policy, pcrs: Registers): void {
  const entry = policy.revoked.find((one) => isRevoked(one, pcrs));
  if (entry !== undefined) {
    throw refused(
      "release-revoked",
      `policy: ${entry.name ?? entry.label ?? "a release"} was revoked: ${entry.reason}`,
    );
  }
}

function isRevoked(entry: Revocation, pcrs: Registers): boolean {
  if (entry.pcrs !== null) {
    return [...entry.pcrs].every(([index, value]) => isEqual(pcrs.get(index), value));
  }
  const labels = [labelOf(pcrs, REQUIRED_PCRS), labelOf(pcrs, [...REQUIRED_PCRS, MODEL_PCR])];
  return entry.label !== null && labels.includes(entry.label);
}

/** 16 hex digits that name code, or code with its model; null if a register is missing. */
function labelOf(pcrs: Registers, indexes: readonly number[]): string | null {
  const registers = indexes.map((index) => pcrs.get(index));
  return registers.every((register) => register !== undefined)
    ? hex(sha256(concat(...registers))).slice(0, 16)
    : null;
}

function isEqual(found: Bytes | undefined, expected: Bytes): boolean {
  return found !== undefined && equal(found, expected);
}

function shortened(value: Bytes | undefined): string {
  return value === undefined ? "no such register" : `${hex(value).slice(0, 16)}...`;
}
