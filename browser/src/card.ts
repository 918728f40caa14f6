/** The model card that an enclave attests: which model will see the picture, and how its answers read. */

import { sha384 } from "@noble/hashes/sha2.js";
import { type Bytes, characters, concat, fromUtf8, isPrintable, owned, utf8 } from "./bytes.ts";
import * as json from "./json.ts";

const SCHEMA = "enclavectl.model/2";
const MAX_CARD_BYTES = 64 * 1024;
const MAX_LABELS = 1024;
/** An answer has room for the codes of so many labels. */
export const MAX_ANSWER_LABELS = 64;
const FIELDS = ["schema", "id", "sha256", "input", "output", "labels", "notice"];

export interface Label {
  code: string;
  name: string;
}

export interface ModelCard {
  id: string;
  /** Of the weights, in hex. */
  sha256: string;
  labels: readonly Label[];
  notice: string;
  /** Below so many parts per billion the most probable label counts as doubt; null for no such bound. */
  unsureBelow: number | null;
  /** How many labels an answer has, the most probable ones; null for all. */
  top: number | null;
}

/** Read an attested card; its texts reach the screen, so all of them are bounded.
 *
 * How a picture becomes the model's input is the enclave's business: that part is measured, and not read here.
 * @throws JsonError for another form.
 */
export function parseCard(data: Uint8Array): ModelCard {
  const text = data.length > MAX_CARD_BYTES ? null : fromUtf8(data);
  const top = json.object(parsed(text), "card");
  const isForm = top.schema === SCHEMA && Object.keys(top).every((key) => FIELDS.includes(key));
  const labels = json.list(top.labels, "labels").map(parseLabel);
  const codes = new Set(labels.map(({ code }) => code));
  if (!isForm || labels.length < 1 || labels.length > MAX_LABELS || codes.size !== labels.length) {
    throw new json.JsonError(`card: expected ${SCHEMA} with 1 to ${MAX_LABELS} labels of different codes`);
  }
  json.object(top.input, "input");
  const output = json.object(top.output, "output");
  const most = optionalInteger(output.top, "top", 1, MAX_ANSWER_LABELS);
  if (most === null && labels.length > MAX_ANSWER_LABELS) {
    throw new json.JsonError("output.top: an answer has no room for all labels");
  }
  return {
    id: matching(top.id, "id", /^[a-z0-9][a-z0-9_.-]{0,63}$/),
    sha256: matching(top.sha256, "sha256", /^[0-9a-f]{64}$/),
    labels,
    notice: line(top.notice, "notice", 1000),
    unsureBelow: optionalInteger(output.unsure_below_ppb, "unsure_below_ppb", 0, 1_000_000_000),
    top: most,
  };
}

/** Compute what PCR16 holds after one extension from zero with the card's commitment. */
export function modelRegister(card: Uint8Array): Bytes {
  const commitment = sha384(concat(utf8("enclavectl model v1"), card));
  return owned(sha384(concat(new Uint8Array(48), commitment)));
}

function parsed(text: string | null): unknown {
  try {
    return JSON.parse(text ?? "");
  } catch {
    throw new json.JsonError("card: expected JSON");
  }
}

function parseLabel(value: unknown): Label {
  const [code, name, ...more] = json.list(value, "label");
  if (more.length > 0) {
    throw new json.JsonError("label: expected a code and a name");
  }
  return { code: matching(code, "code", /^[a-z0-9][a-z0-9_.-]{0,31}$/), name: line(name, "name", 100) };
}

function optionalInteger(value: unknown, where: string, least: number, most: number): number | null {
  return value === undefined ? null : json.integer(value, where, least, most);
}

function line(value: unknown, where: string, limit: number): string {
  const text = json.string(value, where);
  if (text.length === 0 || characters(text) > limit || !isPrintable(text)) {
    throw new json.JsonError(`${where}: expected 1 to ${limit} printable characters on one line`);
  }
  return text;
}

function matching(value: unknown, where: string, pattern: RegExp): string {
  const text = json.string(value, where);
  if (!pattern.test(text)) {
    throw new json.JsonError(`${where}: expected ${pattern}`);
  }
  return text;
}
