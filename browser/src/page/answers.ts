/** Answers on the screen: bars with the card's names, doubt, and the notice on every one. */

import { isUnsure, type Problem, type Remark, type Score, scoresOf } from "../answer.ts";
import type { CheckedAnswer, Session } from "../session.ts";
import { make, setText } from "./dom.ts";
import type { Chosen } from "./pictures.ts";
import type { Say, TextKey } from "./texts/index.ts";

/** As many as a person reads; the others are in the evidence. */
const MOST_SCORES = 10;

const PROBLEMS: Readonly<Record<Problem, TextKey>> = {
  empty: "problemUnreadable",
  unreadable: "problemUnreadable",
  "too-many-pixels": "problemTooManyPixels",
  "more-than-one-frame": "problemFrames",
  "unsupported-pixels": "problemUnsupported",
  "unsupported-compression": "problemUnsupported",
  "nothing-visible": "problemNothingVisible",
  "model-failed": "problemFailed",
  "too-costly": "problemFailed",
  "decoder-failed": "problemFailed",
  "too-late": "problemFailed",
  "outbox-full": "problemFailed",
};
const REMARKS: Readonly<Record<Remark, TextKey>> = { "one-color": "oneColor", "few-pixels": "fewPixels" };

/** A picture that was handed in, and what became of it. */
export interface Entry {
  chosen: Chosen;
  /** What has gone of it, 0 to 1. */
  share: number;
  answer: CheckedAnswer | null;
  session: Session | null;
  /** True if nothing will come any more. */
  isOver: boolean;
  element: HTMLElement;
  /** The part of `element` that changes. */
  said: HTMLElement;
}

/** Make the entry of a picture; its preview moves there. */
export function newEntry(chosen: Chosen): Entry {
  const said = make("div", { class: "said" });
  const element = make(
    "article",
    { class: "answer", "aria-label": chosen.name },
    make("h3", {}, chosen.name),
    chosen.preview,
    said,
  );
  return { chosen, share: 0, answer: null, session: null, isOver: false, element, said };
}

/** Show what has become of a picture, in a language. */
export function showEntry(entry: Entry, say: Say): void {
  entry.said.replaceChildren(...renderSaid(entry, say));
}

/** Show how far a picture without an answer has come. */
export function showProgress(entry: Entry, say: Say): void {
  const shown = entry.said.querySelector<HTMLElement>(".progress");
  if (shown !== null) {
    setText(shown, progressText(entry, say));
  }
}

function progressText(entry: Entry, say: Say): string {
  if (entry.isOver) {
    return say(entry.share > 0 ? "notAnswered" : "notSent");
  }
  const percent = Math.floor(100 * entry.share);
  return percent < 100 ? say("sending", { percent }) : say("waitingForAnswer");
}

function renderSaid(entry: Entry, say: Say): HTMLElement[] {
  const { answer, session } = entry;
  if (answer === null || session === null) {
    return [make("p", { class: "progress" }, progressText(entry, say))];
  }
  const { outcome } = answer;
  if (outcome.problem !== null) {
    return [make("p", { class: "problem" }, say(PROBLEMS[outcome.problem]))];
  }
  const { card } = session.enclave.config;
  const scores = scoresOf(outcome, card);
  const percent = new Intl.NumberFormat(document.documentElement.lang, {
    style: "percent",
    minimumFractionDigits: 1,
    maximumFractionDigits: 1,
  });
  const remarks = outcome.remarks.map((remark) => make("p", { class: "remark" }, say(REMARKS[remark])));
  return [
    ...(isUnsure(scores, card) ? [make("p", { class: "unsure" }, say("unsure"))] : []),
    make(
      "ul",
      { class: "scores" },
      ...scores.slice(0, MOST_SCORES).map((score) => renderScore(score, percent)),
    ),
    ...remarks,
    make("p", { class: "notice" }, card.notice),
    make("p", { class: "signed" }, say("signed")),
  ];
}

function renderScore({ label, probability }: Score, percent: Intl.NumberFormat): HTMLElement {
  return make(
    "li",
    { "data-code": label.code },
    make("span", { class: "label" }, label.name),
    make("span", { class: "percent" }, percent.format(probability)),
    make("progress", { max: "1", value: String(probability), "aria-hidden": "true" }),
  );
}
