/** Runs the benchmark's parts in Chromium: an order as JSON on standard input, times as JSON on standard output. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

interface Order {
  chromium: string;
  url: string;
  calls: { name: string; arguments: unknown[] }[];
}

const order: Order = JSON.parse(readFileSync(0, "utf8"));
const flags = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
];
const browser = await chromium.launch({ executablePath: order.chromium, args: flags });
try {
  const page = await browser.newPage();
  await page.goto(order.url);
  await page.addScriptTag({ path: fileURLToPath(new URL("page.js", import.meta.url)) });
  const results = [];
  for (const call of order.calls) {
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
  process.stdout.write(JSON.stringify({ results, peakKib: await peak() }));
} finally {
  await browser.close();
}

/** The largest resident memory that a renderer has had. */
async function peak(): Promise<number> {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  const renderers = processInfo.filter(({ type }) => type === "renderer");
  return Math.max(
    ...renderers.map(({ id }) =>
      Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${id}/status`, "utf8"))?.[1]),
    ),
  );
}
