/** The model card that an enclave attests: which model will see the picture, and how its answers read. */

import { sha384 } from "@noble/hashes/sha2.js";
import { type Bytes, characters, concat, fromUtf8, isPrintable, owned, utf8 } from "./bytes.ts";
import * as json from "./json.ts";

const MAX_CARD_BYTES = 64 * 1024;
const MAX_LABELS = 1024;

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
  /** Below this the highest probability counts as doubt: 0 to 1, null for no such bound. */
  unsureBelow: number | null;
}

/** Read an attested card; its texts reach the screen, so all of them are bounded.
 *
 * @throws JsonError for another form.
 */
export function parseCard(data: Uint8Array): ModelCard {
  const text = data.length > MAX_CARD_BYTES ? null : fromUtf8(data);
  const top = json.object(parsed(text), "card");
  const labels = json.list(top.labels, "labels").map(parseLabel);
  if (
    labels.length < 1 ||
    labels.length > MAX_LABELS ||
    new Set(labels.map((one) => one.code)).size !== labels.length
  ) {
    throw new json.JsonError(`labels: expected 1 to ${MAX_LABELS} with different codes`);
  }
  json.object(top.input, "input");
  return {
    id: matching(top.id, "id", /^[a-z0-9][a-z0-9_.-]{0,63}$/),
    sha256: matching(top.sha256, "sha256", /^[0-9a-f]{64}$/),
    labels,
    notice: line(top.notice, "notice", 1000),
    unsureBelow: unsureBelow(top.output),
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

/** Read the bound of doubt; cards without an `output` have none. */
function unsureBelow(output: unknown): number | null {
  const bound = output === undefined ? null : (json.object(output, "output").unsure_below ?? null);
  if (bound === null) {
    return null;
  }
  if (typeof bound !== "number" || bound < 0 || bound > 1) {
    throw new json.JsonError("unsure_below: expected 0 to 1");
  }
  return bound;
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
