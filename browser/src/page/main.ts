/** The page's start: what must be here before anything can be proven. */

import { isOver } from "../policy.ts";
import { App } from "./app.ts";
import { type PageConfig, parseConfig } from "./config.ts";
import { byId, make } from "./dom.ts";
import { contactLine } from "./problems.ts";
import { preferredLanguage, sayIn, type TextKey } from "./texts/index.ts";

/** Show why the page cannot work, and what to do. */
function stop(what: TextKey, next: TextKey, contact: string | null): void {
  const language = preferredLanguage(navigator.languages);
  document.documentElement.lang = language;
  const say = sayIn(language);
  byId("cannot").hidden = false;
  byId("cannot").replaceChildren(
    make("p", { "data-stop": what }, say(what)),
    make("p", {}, make("strong", {}, say("nextStep")), " ", say(next)),
    ...contactLine(contact, say),
  );
}

function readConfig(): PageConfig | null {
  try {
    return parseConfig(byId("config").textContent ?? "");
  } catch {
    return null;
  }
}

function start(): void {
  const config = readConfig();
  if (config === null) {
    stop("damaged", "damagedNext", null);
  } else if (!globalThis.isSecureContext || globalThis.crypto?.subtle === undefined) {
    stop("noCrypto", "noCryptoNext", config.contact);
  } else if (isOver(config.policy, Date.now())) {
    stop("pageOld", "pageOldNext", config.contact);
  } else {
    new App(config).start();
  }
}

// What throws here is not in the browser: then the line about old browsers stays.
start();
byId("too-old").hidden = true;
