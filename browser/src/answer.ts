/** The content of an answer: the outcome, as the bytes that the receipt commits to, and the receipt. */

import type { Bytes } from "./bytes.ts";
import { type Label, MAX_ANSWER_LABELS, type ModelCard } from "./card.ts";
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

/** The enclave's word on a picture: parts per billion by label, or a problem; never both. */
export interface Outcome {
  modelId: string;
  modelSha256: string;
  /** All labels in the card's order, by code. */
  probabilities: readonly (readonly [string, number])[] | null;
  /** Where the card says so, only the most probable labels, by their number in the card. */
  top: readonly (readonly [number, number])[] | null;
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
  const fields = fieldsOf(content, [
    "model",
    "timings",
    "probabilities",
    "top",
    "rest",
    "problem",
    "remarks",
  ]);
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
  const probabilities = pairs(fields.get("probabilities"), isCode);
  const top = pairs(fields.get("top"), isIndex);
  if ([problem, probabilities, top].filter((one) => one !== null).length !== 1) {
    throw protocolError("outcome: expected probabilities, the top of them, or a problem");
  }
  checkTop(top, fields.get("rest"));
  const remarks = parseRemarks(fields.get("remarks"));
  return { modelId, modelSha256, probabilities, top, problem, remarks };
}

/** A label with its probability, from 0 to 1. */
export interface Score {
  label: Label;
  probability: number;
}

/** Name the probabilities by the attested card, the highest first.
 *
 * @throws SessionError `protocol` if there are others, or more or fewer, than the card says.
 */
export function scoresOf(outcome: Outcome, card: ModelCard): Score[] {
  const { probabilities, top } = outcome;
  const expected = card.top === null ? card.labels.length : Math.min(card.top, card.labels.length);
  const found = (card.top === null ? probabilities : top) ?? [];
  if (found.length !== expected) {
    throw protocolError("outcome: another number of labels than the card says");
  }
  const scores = found.map(([key, parts], position) => {
    const label = card.labels[typeof key === "number" ? key : position];
    if (label === undefined || (typeof key === "string" && key !== label.code)) {
      throw protocolError("outcome: a label that the card does not have there");
    }
    return { label, probability: parts / PARTS };
  });
  return scores.sort((a, b) => b.probability - a.probability);
}

/** True where the card says that a highest probability as low as this is doubt. */
export function isUnsure(scores: readonly Score[], card: ModelCard): boolean {
  const [first] = scores;
  return card.unsureBelow !== null && first !== undefined && first.probability * PARTS < card.unsureBelow;
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

/** Read pairs of a label and its parts per billion, each label once; null for null. */
function pairs<T extends string | number>(
  value: Value | undefined,
  isKey: (key: Value | undefined) => key is T,
): [T, number][] | null {
  if (value === null) {
    return null;
  }
  const found = (Array.isArray(value) ? value : []).map((pair): [T, number] => {
    const [key, parts, ...more] = Array.isArray(pair) ? pair : [];
    const isPart = typeof parts === "number" && parts >= 0 && parts <= PARTS;
    if (!isKey(key) || !isPart || more.length > 0) {
      throw protocolError("outcome: probabilities");
    }
    return [key, parts];
  });
  if (found.length === 0 || new Set(found.map(([key]) => key)).size !== found.length) {
    throw protocolError("outcome: probabilities");
  }
  return found;
}

function isCode(key: Value | undefined): key is string {
  return typeof key === "string";
}

function isIndex(key: Value | undefined): key is number {
  return typeof key === "number" && key >= 0;
}

/** Check that the top is in its one order: falling, and of equals the lower number first. */
function checkTop(top: readonly [number, number][] | null, rest: Value | undefined): void {
  const ranked = [...(top ?? [])].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  const isRanked = (top ?? []).every((pair, position) => pair === ranked[position]);
  const isRest = typeof rest === "number" && rest >= 0 && (top !== null || rest === 0);
  if (!isRanked || !isRest || ranked.length > MAX_ANSWER_LABELS) {
    throw protocolError("outcome: top");
  }
}
