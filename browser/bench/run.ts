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
  /** The patient's page, a picture, and how often it is loaded, given the picture and clicked; null for never. */
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

/** Load the patient's page, choose the picture, click, and wait for its answer on the screen. */
async function click(page: Page, url: string, picture: string): Promise<Click> {
  await page.goto(url);
  await page.setInputFiles("#choose", picture);
  await page.waitForSelector("#send:not(:disabled)");
  return page.evaluate(
    () =>
      new Promise<Click>((resolve, reject) => {
        const begun = performance.now();
        let proof = 0;
        new MutationObserver(() => {
          const elapsed = performance.now() - begun;
          if (document.querySelector("#problem [data-code]") !== null) {
            reject(new Error(document.querySelector("#problem")?.textContent ?? ""));
          }
          const waiting = document.querySelector("#checklist .running, #checklist .waiting");
          proof ||= waiting === null ? elapsed : 0;
          if (document.querySelector(".scores") !== null) {
            resolve({ proof, answer: elapsed });
          }
        }).observe(document.body, { childList: true, subtree: true });
        document.querySelector<HTMLElement>("#send")?.click();
      }),
  );
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
  for (let done = 0; done < (order.clicks?.count ?? 0); done += 1) {
    const { url, picture } = order.clicks as { url: string; picture: string };
    clicks.push(await click(page, url, picture));
  }
  process.stdout.write(JSON.stringify({ results, clicks, peakKib: await peakKib(browser) }));
} finally {
  await browser.close();
}
