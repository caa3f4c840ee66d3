// The pages against the real binary: a stand-alone scheduler running a real computation.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { lookInFrame } from "./frames.mjs";
import { ARTEFACTS, figure, live, look, number } from "./looks.mjs";
import { Child, openPage, PYTHON, startBrowser, startCluster, until } from "./stage.mjs";

const PAGES = [
  "status",
  "tasks",
  "progress",
  "graph",
  "groups",
  "computations",
  "workers",
  "system",
  "bandwidth",
  "hardware",
  "profile",
  "compute",
  "memory",
  "fine",
  "exceptions",
  "events",
  "stealing",
  "shuffle",
  "coordination",
  "clients",
  "logs",
];

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

describe("values on screen", () => {
  test("figures of the status page equal the counts of the API", async () => {
    const { page, context, faults } = await openPage(browser, stage.base);
    await page.goto(`${stage.base}status`);
    await live(page);
    await until(async () => {
      const counts = await stage.counts();
      // Dask's counts.json counts copies of results, the page counts results.
      const { overview } = await (await fetch(`${stage.base}api/state?topics=overview`)).json();
      const shown = [
        number(await figure(page, "Workers")),
        number(await figure(page, "Threads")),
        number(await figure(page, "In memory")),
        number(await figure(page, "Failed")),
      ];
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
    const said = Object.entries(identity.workers)
      .map(([address, worker]) => `${String(worker.name).replace(/^[a-z]+:\/\//, "")} ${worker.nthreads} ${address}`)
      .sort();
    const shown = await page.$$eval("tbody tr", (rows) =>
      rows.map((row) => [0, 3, row.cells.length - 1].map((at) => row.cells[at].textContent.trim()).join(" ")),
    );
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
    const known = await page.evaluate(
      async (name) => (await fetch(`api/task?key=${encodeURIComponent(name)}`)).status,
      key,
    );
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

describe("where a proxy breaks", () => {
  const broken = {
    sockets: "window.WebSocket = class { constructor() { throw new Error('blocked'); } };",
    "sockets and server-sent events":
      "window.WebSocket = window.EventSource = class { constructor() { throw new Error('blocked'); } };",
  };
  for (const [what, script] of Object.entries(broken)) {
    test(`${what}, the news come another way, the task stream too`, async () => {
      const { page, context } = await openPage(browser, stage.base);
      await page.addInitScript(script);
      await page.goto(`${stage.base}status`);
      await page.waitForSelector(".link.live", { state: "attached", timeout: 40_000 });
      await until(() => page.$eval(".stream canvas", (canvas) => Number(canvas.dataset.held) > 300), "rectangles");
      const counts = await stage.counts();
      await until(async () => number(await figure(page, "Failed")) === counts.erred, "the figures");
      await context.close();
    });
  }
});

describe("every page", () => {
  for (const name of PAGES)
    test(`${name} fits three widths in both themes, is accessible, and says nothing on the console`, () =>
      look(browser, stage.base, name, name));
  test("a worker's page fits, is accessible, and says nothing on the console", async () => {
    const identity = await (await fetch(`${stage.base}json/identity.json`)).json();
    await look(browser, stage.base, `worker?address=${encodeURIComponent(Object.keys(identity.workers)[0])}`, "worker");
  });
  test("a failed task's page fits, is accessible, and says nothing on the console", async () => {
    const found = await (await fetch(`${stage.base}api/find?q=divide`)).json();
    await look(browser, stage.base, `task?key=${encodeURIComponent(found.tasks[0].key)}`, "task");
  });
});

describe("a performance report", () => {
  test("is read from its file alone, without a network", async () => {
    const folder = await mkdtemp(join(tmpdir(), "rask-report-"));
    const file = join(folder, "report.html");
    const { overview } = await (await fetch(`${stage.base}api/state?topics=overview`)).json();
    const made = new Child(PYTHON, [join(import.meta.dirname, "report.py"), overview.now.address, file]);
    const { page, context, faults } = await openPage(browser, pathToFileURL(folder).href);
    try {
      assert.equal(await made.ended, 0, made.output);
      await context.setOffline(true);
      await page.goto(pathToFileURL(file).href);
      await until(
        () => page.$eval(".stream canvas", (canvas) => Number(canvas.dataset.held) >= 50),
        "the tasks in the stream",
      );
      await page
        .getByText(/· 50 bars held/)
        .first()
        .waitFor();
      await page
        .getByText(/· 50 runs/)
        .first()
        .waitFor();
      await page.screenshot({ path: join(ARTEFACTS, "report.png"), fullPage: true });
      assert.deepEqual(faults, []);
    } finally {
      await context.close();
      await rm(folder, { recursive: true, force: true });
    }
  });
});

describe("panes", () => {
  test("show live data in frames of other sites, which see nothing themselves", () => lookInFrame(browser, stage.base));

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
});
