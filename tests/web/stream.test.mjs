// What needs more than a test can compute: a hundred thousand rectangles, lost connections, hidden tabs.
import assert from "node:assert/strict";
import { test } from "node:test";
import { openPage, startBrowser, startMock, until } from "./stage.mjs";

const RECTANGLES = 100_000;

const middle = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
const high = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length * 0.95)];

/** Moves the view with the wheel for `frames` frames; answers painting times and times between frames. */
function move(page, kind, frames) {
  return page.evaluate(
    ([what, count]) =>
      new Promise((done) => {
        const canvas = document.querySelector(".stream canvas");
        const box = canvas.getBoundingClientRect();
        const paints = [];
        const gaps = [];
        let last = performance.now();
        let turn = 0;
        const step = (now) => {
          gaps.push(now - last);
          last = now;
          paints.push(Number(canvas.dataset.paintMs));
          turn += 1;
          if (turn > count) return done({ paints: paints.slice(2), gaps: gaps.slice(2) });
          const delta = what === "pan" ? { deltaX: turn % 40 < 20 ? 30 : -30 } : { deltaY: turn % 40 < 20 ? -20 : 20 };
          canvas.dispatchEvent(
            new WheelEvent("wheel", {
              ...delta,
              clientX: box.left + box.width / 2,
              clientY: box.top + 50,
              bubbles: true,
              cancelable: true,
            }),
          );
          requestAnimationFrame(step);
        };
        requestAnimationFrame(step);
      }),
    [kind, frames],
  );
}

test(`pans and zooms ${RECTANGLES} rectangles at the speed of the screen`, async (t) => {
  const mock = await startMock(RECTANGLES);
  const browser = await startBrowser();
  try {
    const { page, faults } = await openPage(browser, mock.base, { viewport: { width: 1600, height: 900 } });
    await page.goto(`${mock.base}tasks`);
    await until(
      () => page.$eval(".stream canvas", (canvas, least) => Number(canvas.dataset.held) >= least, RECTANGLES),
      "all rectangles",
      30_000,
    );
    await page.locator(".stream canvas").focus();
    await page.keyboard.press("0");
    await page.keyboard.press("ArrowLeft");
    for (const kind of ["pan", "zoom"]) {
      const { paints, gaps } = await move(page, kind, 80);
      t.diagnostic(
        `${kind}, ${RECTANGLES} rectangles: painting ${middle(paints).toFixed(1)} ms (p95 ${high(paints).toFixed(1)}), between frames ${middle(gaps).toFixed(1)} ms (p95 ${high(gaps).toFixed(1)})`,
      );
      assert.ok(new Set(paints).size > 1, `${kind}: every change of view is painted anew`);
    }
    assert.deepEqual(faults, []);
  } finally {
    await browser.close();
    await mock.stop();
  }
});

test("says calmly that the connection is lost, and goes on by itself when it is back", async () => {
  let mock = await startMock(1_000);
  const browser = await startBrowser();
  try {
    const { page } = await openPage(browser, mock.base);
    await page.goto(`${mock.base}status`);
    await page.waitForSelector(".link.live", { state: "attached" });
    await mock.stop();
    await page.getByText("The connection to the scheduler was lost").waitFor();
    assert.equal(await page.locator(".figure").count(), 8, "the last state stays");
    mock = await startMock(1_000, mock.port);
    await page.waitForSelector(".link.live", { state: "attached" });
    await until(
      async () => (await page.getByText("The connection to the scheduler was lost").count()) === 0,
      "the notice to go",
    );
  } finally {
    await browser.close();
    await mock.stop();
  }
});

test("asks for nothing while its tab is hidden, and for everything when it is seen again", async () => {
  const mock = await startMock(1_000);
  const browser = await startBrowser();
  try {
    const { page } = await openPage(browser, mock.base);
    const sockets = [];
    page.on("websocket", (socket) => sockets.push(socket));
    await page.goto(`${mock.base}status`);
    await page.waitForSelector(".link.live", { state: "attached" });
    const hide = (hidden) =>
      page.evaluate((on) => {
        Object.defineProperty(document, "hidden", { configurable: true, get: () => on });
        document.dispatchEvent(new Event("visibilitychange"));
      }, hidden);
    await hide(true);
    await until(() => sockets[0].isClosed(), "the feed to rest", 15_000);
    await hide(false);
    await page.waitForSelector(".link.live", { state: "attached" });
    assert.equal(sockets.length, 2);
  } finally {
    await browser.close();
    await mock.stop();
  }
});

test("works where storage and history are forbidden: in a frame with an origin of its own", async () => {
  const mock = await startMock(1_000);
  const browser = await startBrowser();
  try {
    const { page, context } = await openPage(browser, mock.base);
    await page.route(`${mock.base}host.html`, (route) =>
      route.fulfill({
        contentType: "text/html",
        body: `<iframe sandbox="allow-scripts" src="${mock.base}individual-task-stream" width="600" height="400"></iframe>`,
      }),
    );
    const errors = [];
    page.on("pageerror", (error) => errors.push(error.message));
    await page.goto(`${mock.base}host.html`);
    await page.frameLocator("iframe").locator(".stream canvas").waitFor();
    const frame = page.frames()[1];
    await until(
      () => frame.evaluate(() => Number(document.querySelector(".stream canvas")?.dataset.held) > 500),
      "rectangles in the frame",
    );
    assert.deepEqual(errors, []);
    await context.close();
  } finally {
    await browser.close();
    await mock.stop();
  }
});
