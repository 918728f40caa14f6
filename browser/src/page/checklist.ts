/** The proof as a list that a patient understands: each item is one or more steps of the verifier. */

import type { Progress, Session } from "../session.ts";
import { STEPS } from "../verify.ts";
import type { PageConfig } from "./config.ts";
import { make, setText } from "./dom.ts";
import type { Say, TextKey } from "./texts/index.ts";

interface Item {
  title: TextKey;
  about: TextKey;
  steps: readonly Progress[];
}

const ITEMS: readonly Item[] = [
  { title: "checkConnection", about: "aboutConnection", steps: ["connected"] },
  {
    title: "checkGenuine",
    about: "aboutGenuine",
    steps: ["signer", "envelope", "payload", "chain", "validity", "signature", "identity"],
  },
  { title: "checkFresh", about: "aboutFresh", steps: ["freshness", "nonce"] },
  { title: "checkPrivate", about: "aboutPrivate", steps: ["debug"] },
  { title: "checkProgram", about: "aboutProgram", steps: ["release"] },
  { title: "checkKey", about: "aboutKey", steps: ["user-data", "key-config"] },
  { title: "checkModel", about: "aboutModel", steps: ["model"] },
];
/** The order in which the steps are taken: the first that has not passed is the one that failed. */
const ORDER: readonly Progress[] = ["connected", ...STEPS, "key-config", "model"];

type State = "waiting" | "running" | "passed" | "failed" | "notReached" | "onlyATest";
/** What does not hold although its steps passed: the policy allows enclaves of these kinds for tests. */
const NOT_SO: Readonly<Record<string, readonly TextKey[]>> = {
  simulated: ["checkGenuine", "checkPrivate"],
  emulated: ["checkGenuine", "checkPrivate"],
  debug: ["checkPrivate", "checkProgram"],
};

/** An item on the screen. */
interface Row {
  item: Item;
  element: HTMLElement;
  summary: HTMLElement;
  what: HTMLElement;
  state: HTMLElement;
  about: HTMLElement;
}

/** What has passed so far. */
export class Checklist {
  /** They stay while their states change, so a step costs little, and what the reader unfolded stays so. */
  readonly #rows = ITEMS.map(makeRow);
  readonly #passed = new Set<Progress>();
  #phase: "idle" | "running" | "failed" = "idle";
  #session: Session | null = null;

  begin(): void {
    this.#passed.clear();
    this.#phase = "running";
    this.#session = null;
  }

  pass(step: Progress): void {
    this.#passed.add(step);
  }

  prove(session: Session): void {
    this.#session = session;
  }

  /** Mark the step after the last that passed, if it is one of the proof. */
  fail(): void {
    if (this.#session === null) {
      this.#phase = "failed";
    }
  }

  get isProven(): boolean {
    return this.#session !== null;
  }

  /** The trust in the enclave, once it is proven. */
  get trust(): string | null {
    return this.#session?.enclave.document.trust ?? null;
  }

  get elements(): HTMLElement[] {
    return this.#rows.map(({ element }) => element);
  }

  /** Bring the rows to what has passed and to what was found, in a language. */
  show(config: PageConfig, say: Say): void {
    const blanks = { address: config.address, root: config.root.name };
    for (const { item, summary, what, about } of this.#rows) {
      summary.title = say("details");
      setText(what, say(item.title));
      setText(about, say(item.about, blanks) + this.#found(item, say));
    }
    this.showStates(say);
  }

  /** Bring the rows to what has passed, in the language that they have. */
  showStates(say: Say): void {
    for (const { item, element, state } of this.#rows) {
      const now = this.#state(item);
      setText(state, say(now));
      element.className = `check ${now}`;
    }
  }

  #state(item: Item): State {
    if (item.steps.every((step) => this.#passed.has(step))) {
      return NOT_SO[this.trust ?? ""]?.includes(item.title) ? "onlyATest" : "passed";
    }
    if (this.#phase === "idle") {
      return "waiting";
    }
    const current = ORDER.find((step) => !this.#passed.has(step));
    const isCurrent = current !== undefined && item.steps.includes(current);
    if (this.#phase === "failed") {
      return isCurrent ? "failed" : "notReached";
    }
    return isCurrent ? "running" : "waiting";
  }

  #found(item: Item, say: Say): string {
    const enclave = this.#session?.enclave;
    if (enclave === undefined) {
      return "";
    }
    if (item.title === "checkProgram" && enclave.document.release !== null) {
      return ` ${say("programIs", { release: enclave.document.release })}`;
    }
    return item.title === "checkModel" ? ` ${say("modelIs", { model: enclave.config.card.id })}` : "";
  }
}

function makeRow(item: Item): Row {
  const what = make("span", { class: "what" });
  const state = make("span", { class: "state" });
  const about = make("p");
  const mark = make("span", { class: "mark", "aria-hidden": "true" });
  const summary = make("summary", {}, mark, what, " ", state);
  const details = make("details", {}, summary, about);
  const element = make("li", { class: "check", "data-check": item.title }, details);
  return { item, element, summary, what, state, about };
}
