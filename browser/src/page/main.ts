/** The page's start: what must be here before anything can be proven. */

import { isOver } from "../policy.ts";
import { App } from "./app.ts";
import { type PageConfig, parseConfig } from "./config.ts";
import { byId, make } from "./dom.ts";
import { preferredLanguage, sayIn, type TextKey } from "./texts/index.ts";

/** Show why the page cannot work, and what to do. */
function stop(what: TextKey, next: TextKey): void {
  const language = preferredLanguage(navigator.languages);
  document.documentElement.lang = language;
  const say = sayIn(language);
  byId("cannot").hidden = false;
  byId("cannot").replaceChildren(
    make("p", { "data-stop": what }, say(what)),
    make("p", {}, make("strong", {}, say("nextStep")), " ", say(next)),
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
  byId("too-old").hidden = true;
  const config = readConfig();
  if (config === null) {
    stop("damaged", "damagedNext");
  } else if (!globalThis.isSecureContext || globalThis.crypto?.subtle === undefined) {
    stop("noCrypto", "noCryptoNext");
  } else if (isOver(config.policy, Date.now())) {
    stop("pageOld", "pageOldNext");
  } else {
    new App(config).start();
  }
}

start();
