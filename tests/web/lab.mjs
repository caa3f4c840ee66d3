// The dashboard inside JupyterLab: dask-labextension finds it by its address, lists its plots and embeds them, and
// jupyter-server-proxy passes it on. Run by tests/web/lab.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { figure, live, number } from "./looks.mjs";
import { Child, freePort, openPage, startAppliance, startBrowser, startCluster, until } from "./stage.mjs";

const TOKEN = "for-this-test-only";
/** JupyterLab loads some megabytes of script. */
const LAB_MS = 90_000;

let lab;
let appliance;
let scheduler;
let browser;

async function startLab() {
  const folder = await mkdtemp(join(tmpdir(), "rask-lab-"));
  const port = await freePort();
  const own = Object.fromEntries(
    ["CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR"].map((name) => [`JUPYTER_${name}`, join(folder, name)]),
  );
  const options = [
    "--no-browser",
    "--allow-root",
    "--ip=127.0.0.1",
    `--port=${port}`,
    `--IdentityProvider.token=${TOKEN}`,
    `--ServerApp.root_dir=${folder}`,
    "--LabApp.news_url=",
  ];
  const child = new Child(
    join(process.env.RASK_LAB_VENV, "bin/jupyter"),
    ["lab", ...options],
    { ...own, HOME: folder },
    folder,
  );
  const base = `http://127.0.0.1:${port}/`;
  await until(async () => (await fetch(`${base}api?token=${TOKEN}`)).ok, "JupyterLab", LAB_MS).catch((error) => {
    throw new Error(`${error.message}\n${child.output}`);
  });
  const stop = async () => {
    await child.stop();
    await rm(folder, { recursive: true, force: true });
  };
  return { base, stop };
}

before(async () => {
  [appliance, scheduler, lab] = await Promise.all([startAppliance(), startCluster(), startLab()]);
  browser = await startBrowser();
});
after(async () => {
  await browser?.close();
  await Promise.all([appliance, scheduler, lab].map((one) => one?.stop()));
});

/** Tells the extension where the dashboard is, opens plots it lists, and looks at what they show. */
async function embed(address, base) {
  const plots = await (await fetch(`${base}individual-plots.json`)).json();
  const { page, context } = await openPage(browser, lab.base, { viewport: { width: 1400, height: 900 } });
  page.setDefaultTimeout(LAB_MS);
  await page.goto(`${lab.base}lab?token=${TOKEN}&reset`);
  await page.locator(".jp-SideBar [data-id='dask-dashboard-launcher']").click();
  await page.locator(".dask-URLInput-wrapper input").fill(address);
  await page.keyboard.press("Enter");
  const items = page.locator(".dask-DashboardListing-item button");
  await until(
    async () => (await items.count()) === Object.keys(plots).length,
    `${Object.keys(plots).length} plots in the list`,
    LAB_MS,
  );
  await items.filter({ hasText: /^Progress$/ }).click();
  const progress = page.frameLocator(".dask-DaskDashboard-widget iframe[src*='individual-progress']");
  await progress.getByText("300 / 300").waitFor();
  await items.filter({ hasText: /^Task Stream$/ }).click();
  const stream = page.frameLocator(".dask-DaskDashboard-widget iframe[src*='individual-task-stream']");
  await until(
    async () => Number(await stream.locator(".stream canvas").getAttribute("data-held")) > 300,
    "rectangles in the pane",
  );
  // Live: by the feed, not by what was there when it was loaded.
  await stream.locator(".link.live").waitFor({ state: "attached" });
  if (process.env.RASK_TEST_ARTEFACTS)
    await page.screenshot({
      path: join(
        process.env.RASK_TEST_ARTEFACTS,
        `lab-${new URL(address, lab.base).pathname.replace(/\W+/g, "-")}.png`,
      ),
    });
  await context.close();
}

describe("dask-labextension embeds live panes", () => {
  test("of a scheduler", () => embed(`${scheduler.base}status`, scheduler.base));
  test("of a cluster of the appliance, by its name", () =>
    embed(`${appliance.base}clusters/local/status`, `${appliance.base}clusters/local/`));
  test("of the appliance's own cluster, without a name", () => embed(appliance.base, appliance.base));
  test("through jupyter-server-proxy", () =>
    embed(`/proxy/${new URL(appliance.base).port}/clusters/local/status`, appliance.base));
});

describe("jupyter-server-proxy passes on", () => {
  const pages = {
    "a scheduler's page": () => [scheduler, ""],
    "a cluster's page": () => [appliance, "clusters/local/"],
  };
  for (const [what, where] of Object.entries(pages)) {
    test(`${what}, by WebSocket, with its files and links`, async () => {
      const [stage, path] = where();
      const below = `${lab.base}proxy/${new URL(stage.base).port}/`;
      const { page, context, faults } = await openPage(browser, below);
      await page.request.get(`${lab.base}lab?token=${TOKEN}`);
      let sockets = 0;
      page.on("websocket", (socket) => socket.on("framereceived", () => (sockets += 1)));
      await page.goto(`${below}${path}status`);
      await live(page);
      const counts = await stage.counts();
      await until(async () => number(await figure(page, "Failed")) === counts.erred, "the figures");
      assert.ok(sockets > 0, "news came by WebSocket");
      await page.getByRole("link", { name: "Workers", exact: true }).first().click();
      await page.waitForSelector("tbody tr:nth-child(2)");
      assert.equal(page.url(), `${below}${path}workers`);
      await page.reload();
      await page.waitForSelector("tbody tr:nth-child(2)");
      assert.deepEqual(faults, []);
      await context.close();
    });
  }
});
