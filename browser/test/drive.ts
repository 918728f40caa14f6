/**
 * Drives the page in Chromium for the Python tests. Each line of standard input is an order as JSON; a line of
 * standard output says what was seen. One browser serves all orders, each with storage of its own.
 *
 * An order has `url`, the window's `width` and `dark`, and `rounds`: the pictures of each, chosen together and
 * then sent. What was seen: each check's state, the problem's code, the answers, what the page reported to the
 * console, each WebSocket's bytes, and the saved evidence.
 */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { type Browser, chromium, type Download, type Page } from "playwright-core";

interface Order {
  url: string;
  width: number;
  dark: boolean;
  /** As a phone: it is touched, and has a camera. */
  phone: boolean;
  locale: string;
  /** How far the browser's clock is ahead. */
  aheadMs: number;
  /** Have the pauses before new connections, of seconds, take a tenth. */
  hurry: boolean;
  token: string | null;
  rounds: string[][];
  /** How the pictures come in: "choose", "drop" or "keyboard", which then sends them, too. */
  by: string;
  /** The checks to unfold before anything is sent. */
  unfold: string[];
  print: boolean;
  save: boolean;
  axe: boolean;
  screenshot: string | null;
}

interface Seen {
  stop: string | null;
  stopText: string;
  isTooOld: boolean;
  camera: string;
  checks: Record<string, string>;
  unfolded: string[];
  /** What is offered for sending: the name, and "seen" or what stands in the picture's place. */
  offered: [string, string][];
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
  /** What can be pressed. */
  buttons: number;
  paper: string;
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

async function drive(browser: Browser, order: Order): Promise<Seen> {
  const context = await browser.newContext({
    ignoreHTTPSErrors: true,
    locale: order.locale,
    viewport: { width: order.width, height: 900 },
    hasTouch: order.phone,
    isMobile: order.phone,
    colorScheme: order.dark ? "dark" : "light",
    acceptDownloads: true,
  });
  try {
    return await visit(await context.newPage(), order);
  } finally {
    await context.close();
  }
}

async function visit(page: Page, order: Order): Promise<Seen> {
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
  if (order.hurry) {
    await page.addInitScript(() => {
      const wait = setTimeout;
      const isPause = (ms: number) => ms >= 1000 && ms <= 8000;
      const hurried = (work: () => void, ms = 0) => wait(work, isPause(ms) ? ms / 10 : ms);
      Object.assign(globalThis, { setTimeout: hurried });
    });
  }
  if (order.phone) {
    await page.addInitScript(() => {
      navigator.mediaDevices.enumerateDevices = async () => [{ kind: "videoinput" } as MediaDeviceInfo];
    });
  }
  await page.goto(order.url);
  for (const check of order.unfold) {
    await page.click(`[data-check=${check}] summary`);
  }
  const refusedFiles = [];
  for (const pictures of order.rounds) {
    refusedFiles.push(...(await round(page, pictures, order)));
  }
  if (order.print) {
    await page.emulateMedia({ media: "print" });
  }
  if (order.screenshot !== null) {
    await page.screenshot({ path: order.screenshot, fullPage: true });
  }
  return {
    ...(await look(page)),
    refusedFiles,
    evidence: order.save ? await save(page) : [],
    console: reported,
    sentBytes,
    axe: order.axe ? await axe(page) : [],
  };
}

/** Choose pictures and send them; return why files were refused. */
async function round(page: Page, pictures: string[], { token, by }: Order): Promise<string[]> {
  if (await page.isHidden("#app")) {
    return [];
  }
  if (token !== null) {
    await page.fill("#token", token);
  }
  if (by === "drop") {
    await dropFiles(page, pictures);
  } else if (by === "keyboard") {
    // Playwright has Chromium report a chooser from the moment that somebody waits for it, and not one that the key
    // opens before Chromium has heard so: wait first, and walk there meanwhile.
    const walk = async () => {
      await tabTo(page, "choose");
      await page.keyboard.press("Space");
    };
    const [chooser] = await Promise.all([page.waitForEvent("filechooser"), walk()]);
    await chooser.setFiles(pictures);
  } else {
    await page.setInputFiles("#choose", pictures);
  }
  // Pictures are read one after the other; the list is whole when the page is ready for more.
  await page.waitForFunction(
    () =>
      document.querySelector("#pictures[aria-busy=false]") !== null &&
      document.querySelector("#pictures li, #refused-files p") !== null,
    null,
    { timeout: PATIENCE_MS },
  );
  const refused = await page.locator("#refused-files p").allTextContents();
  if (await page.isEnabled("#send")) {
    if (by === "keyboard") {
      await tabTo(page, "send");
      await page.keyboard.press("Enter");
    } else {
      await page.click("#send");
    }
    await page.waitForSelector("#choose:not(:disabled)", { state: "attached", timeout: PATIENCE_MS });
  }
  return refused;
}

/** Go forward by the keyboard, as far as to an element. */
async function tabTo(page: Page, id: string): Promise<void> {
  for (let tries = 0; tries < 30; tries += 1) {
    await page.keyboard.press("Tab");
    if ((await page.evaluate(() => document.activeElement?.id)) === id) {
      return;
    }
  }
  throw new Error(`the keyboard does not reach ${id}`);
}

/** Let go of files over the page, as a mouse does. */
async function dropFiles(page: Page, paths: string[]): Promise<void> {
  const files = paths.map((path) => ({
    name: path.slice(path.lastIndexOf("/") + 1),
    data: readFileSync(path, "base64"),
  }));
  await page.evaluate((all) => {
    const dataTransfer = new DataTransfer();
    for (const { name, data } of all) {
      dataTransfer.items.add(new File([Uint8Array.from(atob(data), (one) => one.charCodeAt(0))], name));
    }
    document.querySelector("h1")?.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
  }, files);
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
      unfolded: all("#checklist li:has([open])").map((row) => row.dataset.check as string),
      offered: all("#pictures li").map((row): [string, string] => {
        const isSeen = (row.querySelector("img")?.naturalWidth ?? 0) > 0;
        const name = row.querySelector(".name")?.textContent ?? "";
        return [name, isSeen ? "seen" : (row.firstElementChild?.textContent ?? "")];
      }),
      stopText: text("#cannot"),
      isTooOld: !(document.querySelector("#too-old") as HTMLElement).hidden,
      camera: text("#no-camera:not([hidden])"),
      problem: document.querySelector<HTMLElement>("#problem [data-code]")?.dataset.code ?? null,
      problemText: text("#problem"),
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
      buttons: all("button, .file").filter((one) => one.checkVisibility()).length,
      paper: getComputedStyle(document.body).backgroundColor,
    };
  });
}

/** Save the evidence, and return the text of each file that the page hands out for it. */
async function save(page: Page): Promise<string[]> {
  await page.check("#statements");
  const downloads: Download[] = [];
  page.on("download", (download) => downloads.push(download));
  // The page clicks links; how many files there are shows there, and not in the browser's events.
  const count = await page.evaluate(() => {
    const click = HTMLAnchorElement.prototype.click;
    let clicks = 0;
    HTMLAnchorElement.prototype.click = function () {
      clicks += 1;
      click.call(this);
    };
    document.querySelector<HTMLElement>("#save")?.click();
    HTMLAnchorElement.prototype.click = click;
    return clicks;
  });
  const deadline = Date.now() + PATIENCE_MS;
  while (downloads.length < count && Date.now() < deadline) {
    await page.waitForTimeout(10);
  }
  if (count === 0 || downloads.length !== count) {
    throw new Error(`${count} files were handed out, ${downloads.length} were downloaded`);
  }
  return await Promise.all(downloads.map(async (one) => readFileSync(await one.path(), "utf8")));
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

const browser = await chromium.launch({ executablePath: process.argv[2] as string, args: FLAGS });
for await (const line of createInterface({ input: process.stdin })) {
  const answer = await drive(browser, JSON.parse(line)).catch((error: unknown) => ({ error: String(error) }));
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
