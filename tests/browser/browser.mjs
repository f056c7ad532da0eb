// Chromium, and pages of it that notice whatever a page must not do.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { chromium } from "playwright-core";

const ARGUMENTS = [
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

// The longest wait for anything, also on a busy machine.
export const PATIENCE = 60_000;

export function launch() {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  return chromium.launch({ executablePath, args: ARGUMENTS, headless: true, chromiumSandbox: false });
}

// A page in a context of its own. `complaints` has every error of the console, violation of the policy, exception and request to
// another host.
export async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    if (new URL(request.url()).host !== new URL(url).host) complaints.push(`a request to ${request.url()}`);
  });
  if (options.javaScriptEnabled !== false) {
    await page.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => console.error(`violates the policy: ${event.violatedDirective}`));
    });
  }
  await options.prepare?.(page);
  await page.goto(url);
  return { page, complaints, close: () => context.close() };
}

export async function connection(page, text) {
  await page.waitForFunction((text) => document.getElementById("connection").textContent.startsWith(text), text);
}

// The counts that a table shows: { type: { status: count } }, without zeros; and the sums in its last row.
export async function matrix(page, id = "matrix") {
  return page.evaluate((id) => {
    const table = document.getElementById(id);
    const heads = [...table.tHead.rows[0].cells].slice(1).map((cell) => cell.textContent);
    const read = (row) => {
      const counts = [...row.cells].slice(1).map((cell, at) => [heads[at], Number(cell.textContent.replaceAll(",", ""))]);
      return Object.fromEntries(counts.filter(([, count]) => count !== 0));
    };
    const types = [...table.tBodies[0].rows].map((row) => [row.cells[0].textContent, read(row)]);
    return { types: Object.fromEntries(types), sums: read(table.tFoot.rows[0]) };
  }, id);
}

// What axe finds wrong for people who use a keyboard, a screen reader or bad light.
export async function assertAccessible(page) {
  await page.evaluate(AXE);
  const violations = await page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
  });
  assert.deepEqual(violations, []);
}
