/** The content of an answer: the outcome, as the bytes that the receipt commits to, and the receipt. */

import type { Bytes } from "./bytes.ts";
import type { Label, ModelCard } from "./card.ts";
import { asBytes, CborError, type Value } from "./cbor.ts";
import { readFields } from "./keyconfig.ts";
import { protocolError } from "./wire.ts";

export const PARTS = 1_000_000_000;

const PROBLEMS = [
  "empty",
  "unreadable",
  "too-many-pixels",
  "more-than-one-frame",
  "unsupported-pixels",
  "unsupported-compression",
  "nothing-visible",
  "model-failed",
  "too-costly",
  "decoder-failed",
  "too-late",
  "outbox-full",
] as const;
const REMARKS = ["one-color", "few-pixels"] as const;
export type Problem = (typeof PROBLEMS)[number];
export type Remark = (typeof REMARKS)[number];

export interface AnswerContent {
  outcome: Bytes;
  receipt: Bytes | null;
}

/** The enclave's word on a picture: parts per billion by label code, or a problem; never both. */
export interface Outcome {
  modelId: string;
  modelSha256: string;
  probabilities: readonly (readonly [string, number])[] | null;
  problem: Problem | null;
  remarks: readonly Remark[];
}

/** Read what was sealed as a final answer.
 *
 * @throws SessionError `protocol`.
 */
export function parseAnswerContent(content: Bytes): AnswerContent {
  const fields = fieldsOf(content, ["outcome", "receipt"]);
  const outcome = asBytes(fields.get("outcome"));
  const receipt = asBytes(fields.get("receipt"));
  if (outcome === null || (receipt === null && fields.get("receipt") !== null)) {
    throw protocolError("an answer without an outcome");
  }
  return { outcome, receipt };
}

/** Read an outcome.
 *
 * @throws SessionError `protocol`.
 */
export function parseOutcome(content: Bytes): Outcome {
  const fields = fieldsOf(content, ["model", "timings", "probabilities", "problem", "remarks"]);
  const model = fields.get("model");
  const timings = fields.get("timings");
  const [modelId, modelSha256, ...more] = Array.isArray(model) ? model : [];
  if (typeof modelId !== "string" || typeof modelSha256 !== "string" || more.length > 0) {
    throw protocolError("outcome: model");
  }
  if (!Array.isArray(timings) || timings.length !== 3 || !timings.every(isCount)) {
    throw protocolError("outcome: timings");
  }
  const problem = oneOf(PROBLEMS, fields.get("problem"));
  const probabilities = parseProbabilities(fields.get("probabilities"));
  if ((problem === null) === (probabilities === null)) {
    throw protocolError("outcome: expected probabilities or a problem");
  }
  return { modelId, modelSha256, probabilities, problem, remarks: parseRemarks(fields.get("remarks")) };
}

/** A label with its probability, from 0 to 1. */
export interface Score {
  label: Label;
  probability: number;
}

/** Name the probabilities by the attested card, the highest first.
 *
 * @throws SessionError `protocol` if there are others than the card's labels.
 */
export function scoresOf(outcome: Outcome, card: ModelCard): Score[] {
  const labels = new Map(card.labels.map((label) => [label.code, label]));
  const scores = (outcome.probabilities ?? []).map(([code, parts]) => {
    const label = labels.get(code);
    if (label === undefined) {
      throw protocolError("outcome: a label that the card does not have");
    }
    return { label, probability: parts / PARTS };
  });
  return scores.sort((a, b) => b.probability - a.probability);
}

/** True where the card says that a highest probability as low as this is doubt. */
export function isUnsure(scores: readonly Score[], card: ModelCard): boolean {
  const [first] = scores;
  return card.unsureBelow !== null && first !== undefined && first.probability < card.unsureBelow;
}

function fieldsOf(content: Bytes, names: readonly string[]): ReadonlyMap<unknown, Value> {
  try {
    const fields = readFields(content, names);
    if (fields !== null) {
      return fields;
    }
  } catch (error) {
    if (!(error instanceof CborError)) {
      throw error;
    }
  }
  throw protocolError(`expected a map of ${names.join(", ")}`);
}

function isCount(value: Value): boolean {
  return (typeof value === "number" || typeof value === "bigint") && value >= 0;
}

/** Return the word if it is one of these, null for null.
 *
 * @throws SessionError `protocol` for another value.
 */
function oneOf<T extends string>(words: readonly T[], value: Value | undefined): T | null {
  if (value === null || words.includes(value as T)) {
    return value as T | null;
  }
  throw protocolError("outcome: an unknown word");
}

function parseRemarks(value: Value | undefined): Remark[] {
  const remarks = (Array.isArray(value) ? value : [null]).map((one) => oneOf(REMARKS, one));
  if (!remarks.every((one) => one !== null) || new Set(remarks).size !== remarks.length) {
    throw protocolError("outcome: remarks");
  }
  return remarks;
}

function parseProbabilities(value: Value | undefined): [string, number][] | null {
  if (value === null) {
    return null;
  }
  const pairs = (Array.isArray(value) ? value : []).map((pair) => {
    const [code, parts, ...more] = Array.isArray(pair) ? pair : [];
    const isPart = typeof parts === "number" && parts >= 0 && parts <= PARTS;
    if (typeof code !== "string" || !isPart || more.length > 0) {
      throw protocolError("outcome: probabilities");
    }
    return [code, parts] as [string, number];
  });
  if (pairs.length === 0 || new Set(pairs.map(([code]) => code)).size !== pairs.length) {
    throw protocolError("outcome: probabilities");
  }
  return pairs;
}
