/** The page: what it knows, and how its parts follow from that. */

import { Client } from "../client.ts";
import { prepareSealing } from "../hpke.ts";
import { type Entry, newEntry, showEntry, showProgress } from "./answers.ts";
import { Checklist } from "./checklist.ts";
import { labelInput, takesPhotos, watchFiles } from "./chooser.ts";
import type { PageConfig } from "./config.ts";
import { button, byId, make } from "./dom.ts";
import { type Chosen, MAX_PICTURES, readPicture, Unusable } from "./pictures.ts";
import { contactLine, describe } from "./problems.ts";
import { rehearse } from "./rehearsal.ts";
import { saveEvidence } from "./save.ts";
import { LANGUAGES, preferredLanguage, type Say, sayIn, type TextKey } from "./texts/index.ts";

export class App {
  readonly #config: PageConfig;
  readonly #client: Client;
  readonly #checklist = new Checklist();
  #say: Say;
  #chosen: Chosen[] = [];
  #entries: Entry[] = [];
  #refusedFiles: string[] = [];
  #error: unknown = null;
  #isWorking = false;
  #reading: Promise<void> = Promise.resolve();
  /** True unless something of the last batch has left. */
  #isUnsent = true;
  #status: (say: Say) => string = () => "";

  constructor(config: PageConfig) {
    this.#config = config;
    this.#client = new Client(() => this.#expectation());
    this.#say = this.#choose(preferredLanguage(navigator.languages));
  }

  start(): void {
    watchFiles((files) => {
      // One after the other: they share the room that is left.
      const reading = this.#reading.then(() => this.#take(files));
      this.#reading = reading;
      byId("pictures").ariaBusy = "true";
      reading.finally(() => {
        byId("pictures").ariaBusy = String(this.#reading !== reading);
      });
    });
    byId("send").addEventListener("click", () => void this.#send());
    byId("save").addEventListener("click", () => {
      const isFull = (byId("statements") as HTMLInputElement).checked;
      saveEvidence(this.#entries, this.#config, isFull);
    });
    byId("token").addEventListener("input", () => this.#renderButtons());
    byId("token-row").hidden = !this.#config.needsToken;
    byId("checklist").replaceChildren(...this.#checklist.elements);
    this.#render();
    byId("app").hidden = byId("footer").hidden = false;
    takesPhotos().then((isCamera) => {
      byId("camera").hidden = byId("camera-label").hidden = !isCamera;
      byId("no-camera").hidden = isCamera;
    });
    // Later, so that the page is seen first.
    setTimeout(rehearse);
  }

  #expectation() {
    const { address, needsToken, policy, root } = this.#config;
    const token = needsToken ? (byId("token") as HTMLInputElement).value.trim() : null;
    return { address, token, policy, root };
  }

  #choose(language: string): Say {
    document.documentElement.lang = language;
    return sayIn(language);
  }

  async #take(files: readonly File[]): Promise<void> {
    if (files.length === 0 || this.#isWorking) {
      return;
    }
    this.#refusedFiles = [];
    const room = Math.max(MAX_PICTURES - this.#chosen.length, 0);
    for (const file of files.slice(0, room)) {
      try {
        const chosen = await readPicture(file, this.#say);
        chosen.preview.addEventListener("error", () => this.#renderPictures());
        this.#chosen.push(chosen);
      } catch (error) {
        if (!(error instanceof Unusable)) {
          throw error;
        }
        this.#refusedFiles.push(error.message);
      }
    }
    if (files.length > room) {
      const blanks = { most: MAX_PICTURES, left: files.length - room };
      this.#refusedFiles.push(this.#say("tooMany", blanks));
    }
    this.#renderPictures();
    this.#renderButtons();
    prepareSealing();
  }

  async #send(): Promise<void> {
    const chosen = this.#chosen;
    if (chosen.length === 0 || this.#isWorking) {
      return;
    }
    const batch = chosen.map(newEntry);
    this.#begin(batch);
    try {
      await this.#client.ask(
        chosen.map(({ picture }) => picture),
        {
          opening: () => this.#step(() => this.#checklist.begin()),
          passed: (step) => {
            this.#checklist.pass(step);
            this.#checklist.showStates(this.#say);
          },
          proven: (session) =>
            this.#step(() => {
              this.#checklist.prove(session);
              this.#tell((say) => say("proven"));
            }),
          sending: (index, share) => {
            const entry = batch[index] as Entry;
            entry.share = share;
            showProgress(entry, this.#say);
          },
          answered: (index, answer, session) => {
            const entry = batch[index] as Entry;
            Object.assign(entry, { answer, session });
            this.#renderAnswers([entry]);
          },
          retrying: (_, pauseMs) =>
            this.#tell((say) => say("retrying", { seconds: Math.ceil(pauseMs / 1000) })),
        },
      );
      this.#tell((say) => say("allDone"));
      byId("answers-title").scrollIntoView();
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#end(batch);
    }
  }

  #begin(batch: Entry[]): void {
    this.#isWorking = true;
    this.#error = null;
    this.#refusedFiles = [];
    this.#entries = [...this.#entries, ...batch];
    byId("answers").append(...batch.map(({ element }) => element));
    this.#chosen = [];
    this.#tell((say) => say("working"));
    this.#renderPictures();
    this.#renderAnswers(batch);
    this.#renderProblem();
    this.#renderButtons();
  }

  #fail(error: unknown): void {
    this.#error = error;
    this.#checklist.fail();
    this.#tell(() => "");
  }

  #end(batch: Entry[]): void {
    for (const entry of batch) {
      entry.isOver = entry.answer === null;
    }
    // What never left is offered again.
    const unsent = batch.filter((entry) => entry.isOver && entry.share === 0);
    this.#isUnsent = unsent.length === batch.length;
    this.#entries = this.#entries.filter((entry) => !unsent.includes(entry));
    for (const { element } of unsent) {
      element.remove();
    }
    this.#chosen = unsent.map(({ chosen }) => chosen);
    this.#isWorking = false;
    this.#renderPictures();
    this.#renderAnswers(batch.filter((entry) => entry.isOver));
    this.#renderChecklist();
    this.#renderButtons();
    if (this.#error !== null) {
      byId("problem").focus();
    }
  }

  #step(change: () => void): void {
    change();
    this.#renderChecklist();
  }

  #tell(status: (say: Say) => string): void {
    this.#status = status;
    byId("status").textContent = status(this.#say);
  }

  #render(): void {
    this.#renderTexts();
    this.#renderPictures();
    this.#renderChecklist();
    this.#renderAnswers(this.#entries);
    this.#renderButtons();
    this.#tell(this.#status);
  }

  #renderTexts(): void {
    const say = this.#say;
    for (const element of document.querySelectorAll<HTMLElement>("[data-text]")) {
      element.textContent = say(element.dataset.text as TextKey);
    }
    if (this.#config.title === null) {
      byId("title").textContent = document.title = say("title");
    }
    labelInput("choose", say("choose"));
    labelInput("camera", say("camera"));
    const languages = Object.entries(LANGUAGES).map(([code, texts]) => {
      const isCurrent = document.documentElement.lang === code;
      return button(texts.language, { lang: code, "aria-pressed": String(isCurrent) }, () => {
        this.#say = this.#choose(code);
        this.#render();
        byId("languages").querySelector<HTMLElement>(`[lang=${code}]`)?.focus();
      });
    });
    byId("languages").replaceChildren(...languages);
    byId("about").replaceChildren(...this.#about());
  }

  #about(): HTMLElement[] {
    const say = this.#say;
    const { policy, root, address, contact, tool } = this.#config;
    const releases = policy.releases.map(({ name, expires }) => {
      const date =
        expires === null ? null : new Date(expires).toLocaleDateString(document.documentElement.lang);
      return date === null ? name : `${name} (${say("aboutExpires", { date })})`;
    });
    const rows: [TextKey, string][] = [
      ["aboutPolicy", releases.join(", ")],
      ["aboutRoot", `${root.name}, SHA-256 ${root.sha256}`],
      ["aboutGateway", address],
      ["aboutTool", tool],
      ...(contact === null ? [] : [["aboutContact", contact] satisfies [TextKey, string]]),
    ];
    return rows.flatMap(([title, text]) => [make("dt", {}, say(title)), make("dd", {}, text)]);
  }

  #renderPictures(): void {
    const say = this.#say;
    const items = this.#chosen.map((one, index) => {
      const isBroken = one.preview.complete && one.preview.naturalWidth === 0;
      const preview = isBroken ? make("span", {}, say("noPreview")) : one.preview;
      const remove = button(say("removeShort"), { "aria-label": say("remove", { name: one.name }) }, () => {
        this.#chosen = this.#chosen.filter((_, other) => other !== index);
        this.#renderPictures();
        this.#renderButtons();
        byId("choose").focus();
      });
      const note = one.note === null ? [] : [make("p", {}, say(one.note, { name: one.name }))];
      return make("li", {}, preview, make("span", { class: "name" }, one.name), ...note, remove);
    });
    byId("pictures").replaceChildren(...items);
    byId("no-pictures").hidden = items.length > 0;
    byId("refused-files").replaceChildren(...this.#refusedFiles.map((text) => make("p", {}, text)));
  }

  #renderChecklist(): void {
    this.#checklist.show(this.#config, this.#say);
    const { trust } = this.#checklist;
    const isTest = trust !== null && trust !== "nitro";
    byId("insecure").hidden = !isTest;
    byId("insecure-why").textContent = isTest ? this.#say(trust === "debug" ? "debug" : "simulated") : "";
    this.#renderProblem();
  }

  #renderProblem(): void {
    const say = this.#say;
    const box = byId("problem");
    box.hidden = this.#error === null;
    if (this.#error === null) {
      box.replaceChildren();
      return;
    }
    const { what, next, code, detail } = describe(this.#error, say);
    box.replaceChildren(
      make("h3", {}, say("problemTitle")),
      make("p", {}, what),
      ...(this.#isUnsent ? [make("p", { class: "unsent" }, say("nothingSent"))] : []),
      make("p", {}, make("strong", {}, say("nextStep")), " ", next),
      ...contactLine(this.#config.contact, say),
      make("p", { class: "code", "data-code": code }, `${say("code", { code })} - ${detail}`),
    );
  }

  #renderAnswers(entries: readonly Entry[]): void {
    for (const entry of entries) {
      showEntry(entry, this.#say);
    }
    byId("answers-section").hidden = this.#entries.length === 0;
    byId("save-section").hidden = !this.#entries.some(({ answer }) => answer?.receipt != null);
  }

  #renderButtons(): void {
    const send = byId("send") as HTMLButtonElement;
    const lacksToken = this.#config.needsToken && (byId("token") as HTMLInputElement).value.trim() === "";
    send.disabled = this.#isWorking || this.#chosen.length === 0 || lacksToken;
    send.textContent = this.#say(this.#checklist.isProven ? "sendMore" : "send");
    for (const id of ["choose", "camera"]) {
      (byId(id) as HTMLInputElement).disabled = this.#isWorking;
    }
  }
}
