// Viewers that come and go and tabs that stay, for a long time: nothing may grow. The gate runs a short form;
// RASK_SOAK_SECONDS=3600 node --test tests/web/soak.test.mjs runs an hour.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { live } from "./looks.mjs";
import { Child, openPage, PYTHON, startBrowser, startCluster, until } from "./stage.mjs";

const SECONDS = Number(process.env.RASK_SOAK_SECONDS ?? 5);
const VIEWERS = 20;
const TASKS_PER_SECOND = 100;
/** What a task leaves behind where it is retained: a rectangle, its key, its story. */
const TASK_KIB = 2;
/** Caches and arenas that fill once. */
const SLACK_MIB = 12;

const MIB = 2 ** 20;

/** Unit: MiB. */
const resident = (pid) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) / 1024;

/** What a page holds once its garbage is gone. Unit: MiB. */
async function heap(session) {
  await session.send("HeapProfiler.collectGarbage");
  return (await session.send("Runtime.getHeapUsage")).usedSize / MIB;
}

/** Pages that look for a moment and are gone: made in one tab, so that only the server has much to do. */
const comeAndGo = (page, count) =>
  page.evaluate((viewers) => {
    const want = JSON.stringify({
      v: 1,
      want: ["overview", "workers", "prefixes", "stream", "lanes", "names"],
      stream: { span: 60, px: 0 },
    });
    const one = () =>
      new Promise((done, fail) => {
        const socket = new WebSocket(new URL("feed", document.baseURI).href.replace(/^http/, "ws"));
        let heard = 0;
        socket.onopen = () => socket.send(want);
        socket.onmessage = () => {
          heard += 1;
          if (heard === 2) socket.close();
        };
        socket.onclose = () => (heard >= 2 ? done() : fail(new Error(`only ${heard} messages`)));
      });
    return Promise.all(Array.from({ length: viewers }, one));
  }, count);

test(`${VIEWERS} viewers that come and go, a tab and a hidden one leave nothing behind in ${SECONDS} s`, async (t) => {
  const stage = await startCluster();
  const browser = await startBrowser();
  const { overview } = await (await fetch(`${stage.base}api/state?topics=overview`)).json();
  const total = Math.ceil((SECONDS + 20) * TASKS_PER_SECOND);
  const load = new Child(PYTHON, [
    join(import.meta.dirname, "fill.py"),
    overview.now.address,
    String(total),
    String(TASKS_PER_SECOND),
  ]);
  try {
    const tabs = [];
    for (const hidden of [false, true]) {
      const { page, context, faults } = await openPage(browser, stage.base);
      await page.goto(`${stage.base}status`);
      await live(page);
      if (hidden) {
        await page.evaluate(() => {
          Object.defineProperty(document, "hidden", { configurable: true, get: () => true });
          document.dispatchEvent(new Event("visibilitychange"));
        });
        await page.waitForSelector(".link.paused", { state: "attached" });
      }
      tabs.push({ page, faults, name: hidden ? "hidden tab" : "tab", session: await context.newCDPSession(page) });
    }
    const crowd = await openPage(browser, stage.base);
    await crowd.page.goto(`${stage.base}health`);
    for (let turn = 0; turn < 2; turn += 1) await comeAndGo(crowd.page, VIEWERS);
    const before = { scheduler: resident(stage.pid) };
    for (const tab of tabs) before[tab.name] = await heap(tab.session);
    const start = Date.now();
    let visits = 0;
    while (Date.now() - start < SECONDS * 1000) {
      await comeAndGo(crowd.page, VIEWERS);
      visits += VIEWERS;
    }
    const most = SLACK_MIB + (SECONDS * TASKS_PER_SECOND * TASK_KIB) / 1024;
    const after = { scheduler: resident(stage.pid) };
    for (const tab of tabs) after[tab.name] = await heap(tab.session);
    for (const [name, mib] of Object.entries(after)) {
      t.diagnostic(`${name}: ${before[name].toFixed(1)} MiB, after ${visits} visits ${mib.toFixed(1)} MiB`);
      assert.ok(
        mib - before[name] < (name === "hidden tab" ? 1 : most),
        `${name} grew from ${before[name]} to ${mib} MiB`,
      );
    }
    await until(async () => {
      const now = await (await fetch(`${stage.base}api/state?topics=overview`)).json();
      return now.overview.now.viewers === 1;
    }, "only the tab that is seen to count as a viewer");
    for (const { faults } of tabs) assert.deepEqual(faults, []);
  } finally {
    await load.stop();
    await browser.close();
    await stage.stop();
  }
});
