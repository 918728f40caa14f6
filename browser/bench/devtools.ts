/**
 * Chromium over the pipe of its own protocol, and nothing else: playwright would have each frame of a WebSocket
 * reported to it, which costs a picture as much as sending it.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--no-first-run",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--remote-debugging-pipe",
];

interface Reply {
  id: number;
  result: unknown;
  error?: { message: string };
}

export class Chromium {
  readonly #profile = mkdtempSync(join(tmpdir(), "bench-"));
  readonly #process: ChildProcess;
  readonly #waiting = new Map<number, (reply: Reply) => void>();
  #number = 0;

  constructor(program: string) {
    // The protocol's pipes are the descriptors 3 and 4; each message ends with a zero byte.
    this.#process = spawn(program, [...FLAGS, `--user-data-dir=${this.#profile}`, "about:blank"], {
      stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
    });
    let text = "";
    (this.#process.stdio[4] as Readable).setEncoding("utf8").on("data", (data: string) => {
      const messages = (text + data).split("\0");
      text = messages.pop() as string;
      for (const message of messages) {
        const reply: Reply = JSON.parse(message);
        this.#waiting.get(reply.id)?.(reply);
      }
    });
  }

  /** Send a command to a tab, or to the browser, and return its result. */
  async send<T>(method: string, params: object = {}, sessionId?: string): Promise<T> {
    this.#number += 1;
    const id = this.#number;
    const coming = new Promise<Reply>((resolve) => this.#waiting.set(id, resolve));
    const pipe = this.#process.stdio[3] as Writable;
    pipe.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    const { result, error } = await coming;
    this.#waiting.delete(id);
    if (error !== undefined) {
      throw new Error(`${method}: ${error.message}`);
    }
    return result as T;
  }

  async open(url: string): Promise<Tab> {
    const { targetId } = await this.send<{ targetId: string }>("Target.createTarget", { url: "about:blank" });
    const attached = { targetId, flatten: true };
    const { sessionId } = await this.send<{ sessionId: string }>("Target.attachToTarget", attached);
    // Its reply comes when the page is there, though perhaps not whole.
    await this.send("Page.navigate", { url }, sessionId);
    const tab = new Tab(this, sessionId);
    await tab.call(async () => {
      while (document.readyState !== "complete") {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    });
    return tab;
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    await this.send("Browser.close");
    await ended;
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

export class Tab {
  readonly #browser: Chromium;
  readonly #sessionId: string;

  constructor(browser: Chromium, sessionId: string) {
    this.#browser = browser;
    this.#sessionId = sessionId;
  }

  /** Evaluate an expression, and wait for its promise. */
  async evaluate<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.#browser.send<{
      result: { value: T };
      exceptionDetails?: { exception?: { description?: string } };
    }>("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true }, this.#sessionId);
    if (exceptionDetails !== undefined) {
      throw new Error(exceptionDetails.exception?.description ?? "the page threw");
    }
    return result.value;
  }

  /** Call a function in the page; it sees its arguments and the page alone. */
  call<A extends unknown[], T>(work: (...values: A) => Promise<T> | T, ...values: A): Promise<T> {
    return this.evaluate(`(${work})(...${JSON.stringify(values)})`);
  }

  /** Choose a file as a user does. */
  async choose(selector: string, file: string): Promise<void> {
    const { result } = await this.#browser.send<{ result: { objectId: string } }>(
      "Runtime.evaluate",
      { expression: `document.querySelector(${JSON.stringify(selector)})` },
      this.#sessionId,
    );
    const { objectId } = result;
    await this.#browser.send("DOM.setFileInputFiles", { files: [file], objectId }, this.#sessionId);
  }
}
