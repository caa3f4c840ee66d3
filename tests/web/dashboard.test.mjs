// The pages against the real binary running a real computation.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ALONE, AXE, openPage, startBrowser, startCluster, until } from "./stage.mjs";

const WIDTHS = [360, 900, 1600];
const THEMES = ["light", "dark"];
const PAGES = [
  "status", "tasks", "progress", "graph", "groups", "computations", "workers", "system", "bandwidth", "hardware", "profile", "compute", "memory", "fine", "exceptions", "events", "stealing", "shuffle", "coordination", "clients", "logs",
];
const SHELL = ["clusters", "host", "peers", "logs", "history", "tokens", "settings"];
const ARTEFACTS = process.env.RASK_TEST_ARTEFACTS ?? "/tmp/rask-screenshots";

let stage;
let browser;

before(async () => {
  stage = await startCluster();
  browser = await startBrowser();
});
after(async () => {
  await browser?.close();
  await stage?.stop();
});

/** A figure of the strip on top of the status page. */
function figure(page, name) {
  return page.locator(".figure", { has: page.locator("dt", { hasText: new RegExp(`^${name}$`) }) }).locator("dd").first().innerText();
}

const number = (text) => Number(text.replace(/[^0-9.-]/g, ""));
const settled = (page) => page.waitForFunction(() => document.querySelector("main")?.textContent?.trim() && !document.querySelector("main")?.textContent?.includes("Waiting for the scheduler"), null, { timeout: 15_000 });
const live = (page) => page.waitForSelector(".link.live", { state: "attached", timeout: 15_000 });

describe("values on screen", () => {
  test("figures of the status page equal the counts of the API", async () => {
    const { page, context, faults } = await openPage(browser, stage.base);
    await page.goto(`${stage.base}status`);
    await live(page);
    await until(async () => {
      const counts = await stage.counts();
      // Dask's counts.json counts copies of results, the page counts results.
      const { overview } = await (await fetch(`${stage.base}api/state?topics=overview`)).json();
      const shown = [number(await figure(page, "Workers")), number(await figure(page, "Threads")), number(await figure(page, "In memory")), number(await figure(page, "Failed"))];
      assert.deepEqual(shown, [counts.workers, counts.cores, overview.now.memory, counts.erred]);
      return true;
    }, "the same numbers on screen and in the API");
    assert.deepEqual(faults, []);
    await context.close();
  });

  test("the table of workers equals the identity of the API", async () => {
    const { page, context } = await openPage(browser, stage.base, { viewport: { width: 1600, height: 900 } });
    await page.goto(`${stage.base}workers`);
    await live(page);
    await page.waitForSelector("tbody tr:nth-child(2)");
    const identity = await (await fetch(`${stage.base}json/identity.json`)).json();
    const said = Object.entries(identity.workers).map(([address, worker]) => `${String(worker.name).replace(/^[a-z]+:\/\//, "")} ${worker.nthreads} ${address}`).sort();
    const shown = await page.$$eval("tbody tr", (rows) => rows.map((row) => [0, 3, row.cells.length - 1].map((at) => row.cells[at].textContent.trim()).join(" ")));
    assert.deepEqual(shown.sort(), said);
    await context.close();
  });

  test("progress counts what the prefixes have", async () => {
    const { page, context } = await openPage(browser, stage.base);
    await page.goto(`${stage.base}progress`);
    await live(page);
    const row = page.locator("tbody tr", { hasText: "divide" });
    await row.waitFor();
    const cells = await row.locator("td").allInnerTexts();
    assert.equal(cells[7], "3");
    await context.close();
  });

  test("failures are grouped by cause with their traceback", async () => {
    const { page, context } = await openPage(browser, stage.base);
    await page.goto(`${stage.base}exceptions`);
    await live(page);
    await page.getByText("division by zero").first().waitFor();
    assert.equal(await page.locator(".panel").count(), 1);
    assert.match(await page.locator(".panel").innerText(), /3 tasks/);
    assert.match(await page.locator(".panel pre").innerText(), /return 1 \/ x/);
    await context.close();
  });

  test("the page of a task that cannot run says why", async () => {
    const { page, context } = await openPage(browser, stage.base);
    await page.goto(`${stage.base}task?key=stuck-task`);
    await page.getByText("no-worker").first().waitFor();
    assert.match(await page.locator("main").innerText(), /GPU/);
    await context.close();
  });
});

describe("the task stream", () => {
  test("names what the pointer is on, and a click opens it", async () => {
    const { page, context, faults } = await openPage(browser, stage.base, { viewport: { width: 1600, height: 900 } });
    await page.goto(`${stage.base}tasks`);
    await live(page);
    await until(() => page.$eval(".stream canvas", (canvas) => Number(canvas.dataset.held) > 300), "rectangles");
    const canvas = page.locator(".stream canvas");
    await canvas.focus();
    await page.keyboard.press("0");
    await page.keyboard.press("ArrowDown");
    await page.waitForFunction(() => /Enter opens it/.test(document.querySelector(".stream .sr")?.textContent ?? ""));
    const key = (await page.locator(".stream .sr").innerText()).split(",")[0];
    const known = await page.evaluate(async (name) => (await fetch(`api/task?key=${encodeURIComponent(name)}`)).status, key);
    assert.equal(known, 200, `${key} is a task`);
    await page.keyboard.press("Enter");
    await page.waitForURL(/task\?key=/);
    assert.deepEqual(faults, []);
    await context.close();
  });

  test("has a table of the same, and filters that the address keeps", async () => {
    const { page, context } = await openPage(browser, stage.base, { viewport: { width: 1600, height: 900 } });
    await page.goto(`${stage.base}tasks?action=failed`);
    await live(page);
    await until(() => page.$eval(".stream canvas", (canvas) => Number(canvas.dataset.held) > 300), "rectangles");
    await page.locator(".stream canvas").focus();
    await page.keyboard.press("0");
    await page.waitForTimeout(700);
    await page.getByRole("button", { name: "Table" }).click();
    await page.waitForSelector("tbody tr");
    const rows = await page.$$eval("tbody tr", (all) => all.map((row) => row.cells[1].textContent));
    assert.deepEqual([...new Set(rows)], ["failed"]);
    await context.close();
  });
});

describe("every page", () => {
  const problems = async (page) => {
    const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    return found.violations.map((rule) => `${rule.id}: ${rule.nodes.slice(0, 3).map((node) => node.target.join(" ")).join("; ")}`);
  };
  const look = async (path, name) => {
    const bad = [];
    const { page, context, faults } = await openPage(browser, stage.base);
    await page.goto(stage.base + path);
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
        if ((width === 900 && theme === "dark") || (width === 360 && theme === "light")) bad.push(...(await problems(page)).map((one) => `${width} ${theme}: ${one}`));
      }
    }
    await context.close();
    assert.deepEqual([...bad, ...faults], []);
  };
  for (const name of PAGES) test(`${name} fits three widths in both themes, is accessible, and says nothing on the console`, () => look(name, name));
  for (const name of ALONE ? [] : SHELL) test(`the appliance's ${name} fits, is accessible, and says nothing on the console`, () => look(`#/${name}`, `shell-${name}`));
  test("a worker's page fits, is accessible, and says nothing on the console", async () => {
    const identity = await (await fetch(`${stage.base}json/identity.json`)).json();
    await look(`worker?address=${encodeURIComponent(Object.keys(identity.workers)[0])}`, "worker");
  });
  test("a failed task's page fits, is accessible, and says nothing on the console", async () => {
    const found = await (await fetch(`${stage.base}api/find?q=divide`)).json();
    await look(`task?key=${encodeURIComponent(found.tasks[0].key)}`, "task");
  });
});

describe("panes", () => {
  test("every individual plot that is listed is drawn without a frame or a fault", async () => {
    const plots = await (await fetch(`${stage.base}individual-plots.json`)).json();
    const { page, context, faults } = await openPage(browser, stage.base, { viewport: { width: 700, height: 500 } });
    for (const path of Object.values(plots)) {
      await page.goto(stage.base + String(path).replace(/^\//, ""));
      await page.waitForSelector(".bare .panel, .bare .charts");
      assert.equal(await page.locator("nav").count(), 0, `${path} has no navigation`);
      assert.equal(await page.getByText("There is no plot").count(), 0, `${path} is known`);
    }
    assert.deepEqual(faults, []);
    await context.close();
  });

  test("a page works below a cluster's prefix and in a sandboxed frame", { skip: ALONE }, async () => {
    const { page, context } = await openPage(browser, stage.base);
    await page.goto(`${stage.base}clusters/local/status`);
    await live(page);
    assert.ok(number(await figure(page, "Workers")) >= 1);
    await page.goto(`${stage.base}health`);
    await page.evaluate((src) => {
      const frame = document.createElement("iframe");
      frame.sandbox.add("allow-scripts", "allow-same-origin");
      frame.src = src;
      document.body.append(frame);
    }, `${stage.base}clusters/local/individual-task-stream`);
    await page.frameLocator("iframe").locator(".stream canvas").waitFor();
    await context.close();
  });
});
