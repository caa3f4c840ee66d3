// The appliance's shell against the real `rask up`.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { lookInFrame } from "./frames.mjs";
import { figure, live, look, number } from "./looks.mjs";
import { BARE, noNginx, startNginx, WHOLE } from "./nginx.mjs";
import { openPage, startAppliance, startBrowser, until } from "./stage.mjs";

const PLACES = ["clusters", "host", "peers", "logs", "history", "tokens", "settings"];

let stage;
let browser;
/** Filled with the reason if this binary has no shell to look at. */
let missing = "";

before(async () => {
  stage = await startAppliance();
  if (!(await fetch(`${stage.base}api/where`)).ok) missing = "this binary's appliance serves no dashboard shell";
  browser = await startBrowser();
});
after(async () => {
  await browser?.close();
  await stage?.stop();
});

for (const name of PLACES)
  test(`${name} fits three widths in both themes, is accessible, and says nothing on the console`, (t) =>
    missing ? t.skip(missing) : look(browser, stage.base, `#/${name}`, `shell-${name}`));

test("lists the cluster that runs, as the API has it", async (t) => {
  if (missing) return t.skip(missing);
  const { page, context, faults } = await openPage(browser, stage.base);
  await page.goto(stage.base);
  const card = page.locator(".card", { hasText: "local" });
  await card.waitFor();
  const { clusters } = await (await fetch(`${stage.base}api/rask/v1/clusters`)).json();
  const local = clusters.find((cluster) => cluster.name === "local");
  assert.match(await card.innerText(), new RegExp(`${local.workers} of ${local.target}`));
  await card.getByRole("link", { name: "Dashboard" }).click();
  await live(page);
  await until(
    async () => number(await figure(page, "Workers")) === local.workers,
    "the workers on the cluster's own page",
  );
  assert.deepEqual(faults, []);
  await context.close();
});

test("makes a cluster with options, scales it, stops it", async (t) => {
  if (missing) return t.skip(missing);
  const { page, context } = await openPage(browser, stage.base);
  await page.goto(stage.base);
  await page.getByRole("button", { name: "New cluster" }).click();
  await page.getByLabel("Name (empty: made up)").fill("from-page");
  await page.getByLabel("Workers to start with").fill("0");
  await page.getByRole("button", { name: "Create" }).click();
  const card = page.locator(".card", { hasText: "from-page" });
  await card.getByText("running").waitFor({ timeout: 60_000 });
  await card.getByRole("button", { name: "Scale" }).click();
  await page.getByRole("dialog").getByRole("spinbutton", { name: "Workers" }).fill("1");
  await page.getByRole("dialog").getByRole("button", { name: "Apply" }).click();
  await card.getByText(/of 1$/).waitFor({ timeout: 20_000 });
  await card.getByRole("button", { name: "Stop" }).click();
  await page
    .getByRole("dialog")
    .getByRole("button", { name: /Stop from-page/ })
    .click();
  await card.getByText(/stopp/).first().waitFor({ timeout: 30_000 });
  await context.close();
});

test("makes a token whose secret is shown once, and revokes it", async (t) => {
  if (missing) return t.skip(missing);
  const { page, context } = await openPage(browser, stage.base);
  await page.goto(`${stage.base}#/tokens`);
  await page.getByRole("button", { name: "New token" }).click();
  await page.getByLabel("What it is for").fill("a test");
  await page.getByRole("button", { name: "Create" }).click();
  const secret = (await page.locator("dialog .code pre").innerText()).trim();
  const known = await fetch(`${stage.base}api/rask/v1/clusters`, { headers: { Authorization: `Bearer ${secret}` } });
  assert.equal(known.status, 200);
  await page.getByRole("button", { name: "Done" }).click();
  const row = page.locator("tr", { hasText: "a test" });
  await row.getByRole("button", { name: /Revoke/ }).click();
  await row.getByRole("button", { name: "Really revoke" }).click();
  await until(async () => (await page.locator("tr", { hasText: "a test" }).count()) === 0, "the token to go");
  const refused = await fetch(`${stage.base}api/rask/v1/clusters`, { headers: { Authorization: `Bearer ${secret}` } });
  assert.equal(refused.status, 401);
  await context.close();
});

test("panes of a cluster show live data in frames of other sites, which see nothing themselves", async (t) => {
  if (missing) return t.skip(missing);
  await lookInFrame(browser, `${stage.base}clusters/local/`);
});

for (const [what, lines, way] of [
  ["", WHOLE, "socket"],
  [", even where it passes neither names nor WebSockets", BARE, "events"],
]) {
  test(`all works behind nginx below a prefix${what}`, async (t) => {
    if (missing || noNginx) return t.skip(missing || noNginx);
    const proxy = await startNginx(stage.base, "/some/prefix/", lines);
    const { page, context, faults } = await openPage(browser, proxy.base);
    try {
      let frames = 0;
      page.on("websocket", (socket) => socket.on("framereceived", () => (frames += 1)));
      await page.goto(proxy.base);
      await page.locator(".card", { hasText: "local" }).getByRole("link", { name: "Dashboard" }).click();
      await page.waitForSelector(".link.live", { state: "attached", timeout: 40_000 });
      const counts = await stage.counts();
      await until(async () => number(await figure(page, "Failed")) === counts.erred, "the figures");
      await until(() => page.$eval(".stream canvas", (canvas) => Number(canvas.dataset.held) > 300), "rectangles");
      assert.equal(frames > 0, way === "socket", "how the news came");
      await page.getByRole("link", { name: "Workers", exact: true }).first().click();
      await page.waitForSelector("tbody tr:nth-child(2)");
      assert.equal(page.url(), `${proxy.base}clusters/local/workers`);
      await page.getByRole("link", { name: "All clusters" }).click();
      await page.locator(".card", { hasText: "local" }).waitFor();
      // Dask's own paths lead to the cluster, below the prefix.
      await page.goto(`${proxy.base}individual-progress`);
      assert.equal(page.url(), `${proxy.base}clusters/local/individual-progress`);
      await page.getByText("300 / 300").waitFor();
      await page.goto(`${proxy.base}clusters/local/info/main/workers.html`);
      await page.waitForSelector("tbody tr:nth-child(2)");
      // A socket that was refused is what makes the page try another way.
      assert.deepEqual(
        faults.filter((fault) => way === "socket" || !/WebSocket/.test(fault)),
        [],
      );
    } finally {
      await context.close();
      await proxy.stop();
    }
  });
}
