/**
 * Drives the page in Chromium for the Python tests: reads one order as JSON, writes what was seen as JSON.
 *
 * An order has `url`, `chromium`, `profile` (an empty folder), the window's `width` and `dark`, and `rounds`:
 * the pictures of each, chosen together and then sent. What was seen: each check's state, the problem's code,
 * the answers, what the page reported to the console, each WebSocket's bytes, and the saved evidence.
 */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { type BrowserContext, chromium, type Page } from "playwright-core";

interface Order {
  url: string;
  chromium: string;
  profile: string;
  width: number;
  dark: boolean;
  locale: string;
  /** How far the browser's clock is ahead. */
  aheadMs: number;
  token: string | null;
  rounds: string[][];
  save: boolean;
  axe: boolean;
  screenshot: string | null;
}

interface Seen {
  stop: string | null;
  checks: Record<string, string>;
  problem: string | null;
  problemText: string;
  refusedFiles: string[];
  answers: { name: string; codes: string[]; text: string }[];
  insecure: string;
  evidence: string[];
  console: string[];
  sentBytes: number[];
  stored: string[];
  axe: string[];
  scrollWidth: number;
  times: { proof: number; answer: number }[];
}

const PATIENCE_MS = 60_000;
// --no-sandbox: as root Chromium has no other way. The others keep it from talking to its makers.
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

async function drive(order: Order): Promise<Seen> {
  const context = await chromium.launchPersistentContext(order.profile, {
    executablePath: order.chromium,
    args: FLAGS,
    headless: true,
    ignoreHTTPSErrors: true,
    locale: order.locale,
    viewport: { width: order.width, height: 900 },
    colorScheme: order.dark ? "dark" : "light",
    acceptDownloads: true,
  });
  try {
    return await visit(context, order);
  } finally {
    await context.close();
  }
}

async function visit(context: BrowserContext, order: Order): Promise<Seen> {
  const page = context.pages()[0] ?? (await context.newPage());
  const reported: string[] = [];
  const sentBytes: number[] = [];
  page.on("console", (message) => reported.push(message.text()));
  page.on("pageerror", (error) => reported.push(String(error)));
  page.on("websocket", (socket) => {
    const index = sentBytes.push(0) - 1;
    socket.on("framesent", ({ payload }) => {
      sentBytes[index] = (sentBytes[index] as number) + payload.length;
    });
  });
  if (order.aheadMs !== 0) {
    await page.addInitScript((ahead) => {
      const now = Date.now;
      Date.now = () => now() + ahead;
    }, order.aheadMs);
  }
  await page.goto(order.url);
  const times = [];
  for (const pictures of order.rounds) {
    times.push(await round(page, pictures, order.token));
  }
  if (order.screenshot !== null) {
    await page.screenshot({ path: order.screenshot, fullPage: true });
  }
  return {
    ...(await look(page)),
    evidence: order.save ? await save(page) : [],
    console: reported,
    sentBytes,
    axe: order.axe ? await axe(page) : [],
    times,
  };
}

async function round(page: Page, pictures: string[], token: string | null) {
  if (await page.isHidden("#app")) {
    return { proof: 0, answer: 0 };
  }
  await page.setInputFiles("#choose", pictures);
  if (token !== null) {
    await page.fill("#token", token);
  }
  await page.waitForFunction(
    () =>
      document.querySelector("#pictures li") !== null || document.querySelector("#refused-files p") !== null,
  );
  const send = page.locator("#send");
  // Pictures are read one after the other; the list is whole when nothing is added any more.
  await page.waitForTimeout(200);
  const begun = Date.now();
  let proof = 0;
  if (await send.isEnabled()) {
    await send.click();
    await page.waitForFunction(() => document.querySelector("#checklist .running") === null, null, {
      timeout: PATIENCE_MS,
    });
    proof = Date.now() - begun;
    await page.waitForFunction(
      () => !(document.querySelector("#choose") as HTMLInputElement).disabled,
      null,
      {
        timeout: PATIENCE_MS,
      },
    );
  }
  return { proof, answer: Date.now() - begun };
}

function look(page: Page) {
  return page.evaluate(async () => {
    const all = (selector: string) => [...document.querySelectorAll<HTMLElement>(selector)];
    const text = (selector: string) => document.querySelector(selector)?.textContent ?? "";
    const databases = await indexedDB.databases().catch(() => []);
    return {
      stop: document.querySelector<HTMLElement>("[data-stop]")?.dataset.stop ?? null,
      checks: Object.fromEntries(
        all("#checklist li").map((row) => [row.dataset.check as string, row.className.replace("check ", "")]),
      ),
      problem: document.querySelector<HTMLElement>("#problem [data-code]")?.dataset.code ?? null,
      problemText: text("#problem"),
      refusedFiles: all("#refused-files p").map((one) => one.textContent ?? ""),
      answers: all("#answers article").map((one) => ({
        name: one.getAttribute("aria-label") ?? "",
        codes: [...one.querySelectorAll<HTMLElement>(".scores li")].map((row) => row.dataset.code as string),
        text: one.textContent ?? "",
      })),
      insecure: (document.querySelector("#insecure") as HTMLElement).hidden ? "" : text("#insecure"),
      stored: [
        document.cookie,
        ...Object.keys(localStorage),
        ...databases.map(({ name }) => String(name)),
      ].filter((one) => one !== ""),
      scrollWidth: document.documentElement.scrollWidth,
    };
  });
}

async function save(page: Page): Promise<string[]> {
  await page.check("#statements");
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
  return [readFileSync(await download.path(), "utf8")];
}

/** Run axe-core; it comes from the driver's side, so the page's own policy does not see it. */
async function axe(page: Page): Promise<string[]> {
  const source = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
  const session = await page.context().newCDPSession(page);
  await session.send("Runtime.evaluate", { expression: source });
  const { result } = await session.send("Runtime.evaluate", {
    expression: "axe.run().then(({ violations }) => JSON.stringify(violations))",
    awaitPromise: true,
    returnByValue: true,
  });
  const violations: { id: string; impact: string; nodes: { html: string }[] }[] = JSON.parse(result.value);
  return violations.map(({ id, impact, nodes }) => `${impact}: ${id}: ${nodes[0]?.html}`);
}

const order: Order = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(await drive(order)));
