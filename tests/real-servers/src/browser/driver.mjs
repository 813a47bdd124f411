// Drives Chromium by lines of JSON on standard input, and answers each with a line on standard output.
// Arguments: the folder with playwright-core and axe-core, and the program of Chromium.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";

/** Milliseconds between two looks at the page. */
const POLL = 50;

const [tools, executablePath] = process.argv.slice(2);
const require = createRequire(join(tools, "/"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const args = [
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const browser = await chromium.launch({ executablePath, args });
const errors = [];
let page;

const commands = {
  async open({ url, width, height, scheme }) {
    const context = await browser.newContext({
      viewport: { width, height },
      colorScheme: scheme,
      reducedMotion: "reduce",
      locale: "en-GB",
      timezoneId: "UTC",
      // The certificates of tests are of authorities that nobody knows.
      ignoreHTTPSErrors: true,
    });
    page = await context.newPage();
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) errors.push(message.text());
    });
    page.on("pageerror", (error) => errors.push(error.message));
    const answer = await page.goto(url);
    return answer.status();
  },
  async look({ width, height, scheme }) {
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme: scheme });
  },
  evaluate: ({ expression }) => page.evaluate(expression),
  async wait({ expression, timeout }) {
    // Playwright's own wait evaluates text in the page, which its policy forbids.
    const end = Date.now() + timeout;
    for (;;) {
      const value = await page.evaluate(expression);
      if (value) return value;
      if (Date.now() > end) throw new Error("it does not become true");
      await setTimeout(POLL);
    }
  },
  click: ({ selector, timeout }) => page.click(selector, { timeout }),
  fill: ({ selector, text, timeout }) => page.fill(selector, text, { timeout }),
  press: ({ key }) => page.keyboard.press(key),
  async axe() {
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run());
    const where = ({ nodes }) => nodes.map((node) => `${node.target}: ${node.failureSummary}`).join("; ");
    return violations.map((violation) => `${violation.id}: ${where(violation)}`);
  },
  async screenshot({ path, height }) {
    await page.screenshot({ path, clip: { x: 0, y: 0, width: page.viewportSize().width, height } });
  },
  errors: () => errors,
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...rest } = JSON.parse(line);
  try {
    const value = (await commands[command](rest)) ?? null;
    console.log(JSON.stringify({ value }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error.message ?? error) }));
  }
}
await browser.close();
