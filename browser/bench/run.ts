/** Runs the benchmark's parts in Chromium: an order as JSON on standard input, times as JSON on standard output. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";

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

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
];

async function callAll(page: Page, url: string, calls: readonly Call[]): Promise<unknown[]> {
  await page.goto(url);
  await page.addScriptTag({ path: fileURLToPath(new URL("page.js", import.meta.url)) });
  const results = [];
  for (const call of calls) {
    results.push(
      await page.evaluate(
        ({ name, arguments: values }) =>
          (globalThis as unknown as { bench: Record<string, (...values: unknown[]) => unknown> }).bench[
            name
          ]?.(...values),
        call,
      ),
    );
  }
  return results;
}

/** Open the patient's page so that its connections can be closed: each click then needs a proof of its own. */
async function openPage(page: Page, url: string): Promise<void> {
  await page.addInitScript(() => {
    const sockets: WebSocket[] = [];
    globalThis.WebSocket = class extends WebSocket {
      constructor(address: string | URL, protocols?: string | string[]) {
        super(address, protocols);
        sockets.push(this);
      }
    };
    Object.assign(globalThis, { sockets });
  });
  await page.goto(url);
}

/** Choose the picture, click, and wait for its answer on the screen. */
async function click(page: Page, picture: string): Promise<Click> {
  await page.setInputFiles("#choose", picture);
  await page.waitForSelector("#send:not(:disabled)");
  const times = await page.evaluate(
    () =>
      new Promise<Click>((resolve, reject) => {
        const begun = performance.now();
        const before = document.querySelectorAll(".scores").length;
        let proof = 0;
        new MutationObserver(() => {
          const elapsed = performance.now() - begun;
          if (document.querySelector("#problem [data-code]") !== null) {
            reject(new Error(document.querySelector("#problem")?.textContent ?? ""));
          }
          const isProven = document.querySelector("#checklist .running, #checklist .waiting") === null;
          proof ||= isProven ? elapsed : 0;
          if (document.querySelectorAll(".scores").length > before) {
            resolve({ proof, answer: elapsed });
          }
        }).observe(document.body, { childList: true, subtree: true });
        document.querySelector<HTMLElement>("#send")?.click();
      }),
  );
  await page.evaluate(() => {
    const { sockets } = globalThis as unknown as { sockets: WebSocket[] };
    const open = sockets.splice(0);
    return Promise.all(
      open.map((socket) => {
        socket.close();
        return new Promise((closed) => socket.addEventListener("close", closed));
      }),
    );
  });
  return times;
}

/** The largest resident memory that a renderer has had. */
async function peakKib(browser: Browser): Promise<number> {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  const renderers = processInfo.filter(({ type }) => type === "renderer");
  return Math.max(
    ...renderers.map(({ id }) =>
      Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${id}/status`, "utf8"))?.[1]),
    ),
  );
}

const order: Order = JSON.parse(readFileSync(0, "utf8"));
const browser = await chromium.launch({ executablePath: order.chromium, args: FLAGS });
try {
  const page = await browser.newPage();
  const results = await callAll(page, order.url, order.calls);
  const clicks: Click[] = [];
  if (order.clicks !== null) {
    const { url, picture, count } = order.clicks;
    await openPage(page, url);
    for (let done = 0; done < count; done += 1) {
      clicks.push(await click(page, picture));
    }
  }
  process.stdout.write(JSON.stringify({ results, clicks, peakKib: await peakKib(browser) }));
} finally {
  await browser.close();
}
