// Pages of another site that put ours into frames, as notebooks do, and pages of another site that should see nothing.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { until } from "./stage.mjs";

/** Serves an empty page on another site: pages of `localhost` and of `127.0.0.1` are strangers to a browser. */
async function otherSite() {
  const server = createServer((_, answer) =>
    answer.setHeader("Content-Type", "text/html").end("<!doctype html><title>other</title>"),
  );
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return { url: `http://localhost:${server.address().port}/`, close: () => server.close() };
}

/** Panes show live data in a frame of another site that gives them no origin; that site itself reads nothing. */
export async function lookInFrame(browser, base) {
  const site = await otherSite();
  const context = await browser.newContext({ viewport: { width: 900, height: 700 } });
  const page = await context.newPage();
  try {
    await page.goto(site.url);
    const show = async (path, sandbox) => {
      await page.evaluate(
        ([src, allowed]) => {
          document.body.replaceChildren();
          const frame = document.createElement("iframe");
          frame.setAttribute("sandbox", allowed);
          frame.style.cssText = "width: 860px; height: 640px";
          frame.src = src;
          document.body.append(frame);
        },
        [base + path, sandbox],
      );
      return page.frameLocator("iframe");
    };
    for (const sandbox of ["allow-scripts", "allow-scripts allow-same-origin"]) {
      const progress = await show("individual-progress", sandbox);
      await progress.getByText("300 / 300").waitFor();
      const stream = await show("individual-task-stream", sandbox);
      // Of the last minute before the last task, whichever that was.
      await until(
        async () => Number(await stream.locator(".stream canvas").getAttribute("data-held")) > 0,
        `rectangles in a frame with ${sandbox}`,
      );
      // Asked for by GET, not by the feed.
      const profile = await show("individual-profile", sandbox);
      await profile.getByText(/most time in/).waitFor();
    }
    assert.deepEqual(await page.evaluate(peep, base), { read: "refused", socket: "refused", events: "refused" });
    // As a page without an origin could try: with a ticket it made up.
    const nobody = await show("health", "allow-scripts");
    await nobody.locator("body").waitFor();
    const frame = page.frames().find((one) => one.url() === `${base}health`);
    assert.deepEqual(await frame.evaluate(peep, base), { read: "refused", socket: "refused", events: "refused" });
  } finally {
    await context.close();
    site.close();
  }
}

/** What a stranger's script gets to see. Runs in the browser. */
async function peep(base) {
  const tried = (path) =>
    new Promise((done) => {
      const socket = new WebSocket(`${base.replace(/^http/, "ws")}${path}`);
      socket.onopen = () => done("opened");
      socket.onerror = () => done("refused");
    });
  const guess = `ticket=${"0".repeat(32)}`;
  const read = await fetch(`${base}api/state?${guess}`).then(
    (answer) => answer.text(),
    () => "refused",
  );
  return { read, socket: await tried(`feed?${guess}`), events: await tried(`eventstream?${guess}`) };
}
