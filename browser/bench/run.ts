/** Runs the benchmark's parts in Chromium: an order as JSON on standard input, times as JSON on standard output. */

import { readFileSync } from "node:fs";
import { Chromium, type Tab } from "./devtools.ts";

interface Call {
  name: string;
  arguments: unknown[];
}

interface Order {
  chromium: string;
  /** A page without anything, in which `calls` are made. */
  url: string;
  calls: Call[];
  /** The patient's page, a picture, and how often it is given the picture and clicked; null for never. */
  clicks: { url: string; picture: string; count: number } | null;
}

/** Milliseconds from the click. */
interface Click {
  proof: number;
  answer: number;
}

async function callAll(tab: Tab, calls: readonly Call[]): Promise<unknown[]> {
  await tab.evaluate(readFileSync(new URL("page.js", import.meta.url), "utf8"));
  const results = [];
  for (const call of calls) {
    results.push(
      await tab.evaluate(`bench[${JSON.stringify(call.name)}](...${JSON.stringify(call.arguments)})`),
    );
  }
  return results;
}

/** Have the page's connections noted, so that they can be closed: each click then needs a proof of its own. */
function noteSockets(): void {
  const sockets: WebSocket[] = [];
  globalThis.WebSocket = class extends WebSocket {
    constructor(address: string | URL, protocols?: string | string[]) {
      super(address, protocols);
      sockets.push(this);
    }
  };
  Object.assign(globalThis, { sockets });
}

function closeSockets(): Promise<unknown> {
  const { sockets } = globalThis as unknown as { sockets: WebSocket[] };
  const closing = sockets.splice(0).map((socket) => {
    socket.close();
    return new Promise((closed) => socket.addEventListener("close", closed));
  });
  return Promise.all(closing);
}

/** Wait until the chosen picture is on the screen, as somebody does who looks before the click. */
async function seePreview(): Promise<void> {
  while (document.querySelector("#send:not(:disabled)") === null) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await document.querySelector<HTMLImageElement>("#pictures img")?.decode();
  for (let frames = 0; frames < 2; frames += 1) {
    await new Promise((resolve) => requestAnimationFrame(resolve));
  }
}

/** Click, and wait for the proof and the answer in the document; all is timed in the page. */
function timeClick(): Promise<Click> {
  return new Promise((resolve, reject) => {
    const begun = performance.now();
    const before = document.querySelectorAll(".scores").length;
    let proof = 0;
    const observer = new MutationObserver(() => {
      const elapsed = performance.now() - begun;
      if (document.querySelector("#problem [data-code]") !== null) {
        reject(new Error(document.querySelector("#problem")?.textContent ?? ""));
      }
      const isProven = document.querySelector("#checklist .running, #checklist .waiting") === null;
      proof ||= isProven ? elapsed : 0;
      if (document.querySelectorAll(".scores").length > before) {
        observer.disconnect();
        resolve({ proof, answer: elapsed });
      }
    });
    observer.observe(document.body, { childList: true, attributes: true, subtree: true });
    document.querySelector<HTMLElement>("#send")?.click();
  });
}

async function clickAll(tab: Tab, picture: string, count: number): Promise<Click[]> {
  await tab.call(noteSockets);
  const clicks: Click[] = [];
  while (clicks.length < count) {
    await tab.choose("#choose", picture);
    await tab.call(seePreview);
    clicks.push(await tab.call(timeClick));
    await tab.call(closeSockets);
  }
  return clicks;
}

/** The largest resident memory that a renderer has had. */
async function peakKib(browser: Chromium): Promise<number> {
  const { processInfo } = await browser.send<{ processInfo: { type: string; id: number }[] }>(
    "SystemInfo.getProcessInfo",
  );
  const renderers = processInfo.filter(({ type }) => type === "renderer");
  return Math.max(
    ...renderers.map(({ id }) =>
      Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${id}/status`, "utf8"))?.[1]),
    ),
  );
}

const order: Order = JSON.parse(readFileSync(0, "utf8"));
const browser = new Chromium(order.chromium);
try {
  const results = await callAll(await browser.open(order.url), order.calls);
  const { url, picture, count } = order.clicks ?? { url: "", picture: "", count: 0 };
  const clicks = count > 0 ? await clickAll(await browser.open(url), picture, count) : [];
  process.stdout.write(JSON.stringify({ results, clicks, peakKib: await peakKib(browser) }));
} finally {
  await browser.close();
}
