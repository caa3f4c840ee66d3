// What every page is held to, and how its figures are read.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { AXE, openPage } from "./stage.mjs";

const WIDTHS = [360, 900, 1600];
const THEMES = ["light", "dark"];
export const ARTEFACTS = process.env.RASK_TEST_ARTEFACTS ?? "/tmp/rask-screenshots";

/** A figure of the strip on top of the status page. */
export function figure(page, name) {
  return page
    .locator(".figure", { has: page.locator("dt", { hasText: new RegExp(`^${name}$`) }) })
    .locator("dd")
    .first()
    .innerText();
}

/** The number in a text. */
export const number = (text) => Number(text.replace(/[^0-9.-]/g, ""));

/** Waits until the feed is connected. */
export const live = (page) => page.waitForSelector(".link.live", { state: "attached", timeout: 15_000 });

/** Waits until the page has said something of its own. */
const settled = (page) =>
  page.waitForFunction(
    () =>
      document.querySelector("main")?.textContent?.trim() &&
      !/Waiting for the scheduler|Asking the/.test(document.querySelector("main").textContent),
    null,
    { timeout: 20_000 },
  );

/** What the rules of accessibility find. */
async function problems(page) {
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return found.violations.map(
    (rule) =>
      `${rule.id}: ${rule.nodes
        .slice(0, 3)
        .map((node) => node.target.join(" "))
        .join("; ")}`,
  );
}
/** One page at every width in both themes: fits, is accessible, says nothing on the console. Leaves screenshots. */
export async function look(browser, base, path, name) {
  const bad = [];
  const { page, context, faults } = await openPage(browser, base);
  await page.goto(base + path);
  await settled(page);
  await page.waitForTimeout(300);
  // By the debugger: the page's policy rightly refuses scripts of others.
  await page.evaluate(readFileSync(AXE, "utf8"));
  for (const theme of THEMES) {
    await page.emulateMedia({ colorScheme: theme, reducedMotion: "reduce" });
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: width < 500 ? 800 : 900 });
      await page.waitForTimeout(80);
      await page.screenshot({ path: join(ARTEFACTS, `${name}-${width}-${theme}.png`) });
      const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      if (over > 0) bad.push(`${width} ${theme}: ${over} px too wide`);
      // Contrast depends on the theme, order and names on the width: two looks see both.
      if ((width === 900 && theme === "dark") || (width === 360 && theme === "light"))
        bad.push(...(await problems(page)).map((one) => `${width} ${theme}: ${one}`));
    }
  }
  await context.close();
  // The browser itself reports the one request by which the page finds out that no peers can join here.
  const said = faults.filter((fault) => !/404.*api\/rask\/v1\/peers\)/.test(fault));
  assert.deepEqual([...bad, ...said], []);
}
