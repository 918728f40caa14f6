// Builds the script and the style that `enclavectl page` embeds, with "tests" [FOLDER] what the
// tests run in Node, and with "bench" what benchmarks/page.py runs.
import { mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const OUT = fileURLToPath(new URL("../enclavectl/page/built/", import.meta.url));

async function buildPage() {
  // Whole files appear by renaming: somebody may read them, or build them, at the same time.
  const scratch = `${OUT}.${process.pid}/`;
  await build({
    absWorkingDir: here,
    entryPoints: { page: "src/page/main.ts", style: "src/page/style.css" },
    bundle: true,
    minify: true,
    charset: "utf8",
    legalComments: "inline",
    format: "iife",
    // Safari 16.4, Firefox 115 and Chromium 111: from early 2023 on.
    target: ["es2022"],
    outdir: scratch,
    logLevel: "warning",
  });
  mkdirSync(OUT, { recursive: true });
  for (const name of readdirSync(scratch)) {
    renameSync(`${scratch}${name}`, `${OUT}${name}`);
  }
  rmSync(scratch, { recursive: true });
}

async function buildTests() {
  // Tests that run at the same time have a folder each.
  const outdir = `dist/${process.argv[3] ?? "test"}`;
  await build({
    absWorkingDir: here,
    entryPoints: readdirSync(`${here}test`).map((name) => `test/${name}`),
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    external: ["playwright-core", "axe-core"],
    outdir,
    outExtension: { ".js": ".mjs" },
    logLevel: "warning",
  });
}

async function buildBench() {
  const common = { absWorkingDir: here, bundle: true, outdir: "dist/bench", logLevel: "warning" };
  await build({
    ...common,
    entryPoints: ["bench/page.ts"],
    format: "iife",
    minify: true,
    target: ["es2022"],
  });
  await build({
    ...common,
    entryPoints: ["bench/run.ts"],
    platform: "node",
    format: "esm",
    target: "node20",
    outExtension: { ".js": ".mjs" },
  });
}

await { tests: buildTests, bench: buildBench, page: buildPage }[process.argv[2] ?? "page"]();
