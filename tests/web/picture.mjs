// Takes the picture of the dashboard that the README shows: a real computation on a real cluster.
//
//   node tests/web/picture.mjs [FILE]      default: packaging/doc/dashboard.png
//
// RASK_BIN, VIRTUAL_ENV and CHROMIUM as for tests/web/run.
import { join } from "node:path";
import { live } from "./looks.mjs";
import { openPage, ROOT, startAppliance, startBrowser } from "./stage.mjs";

const file = process.argv[2] ?? join(ROOT, "packaging/doc/dashboard.png");
const browser = await startBrowser();
const stage = await startAppliance({ workers: 4, script: "picture.py", said: "some" });
try {
  const viewport = { width: 1600, height: 900 };
  const { page } = await openPage(browser, stage.base, { viewport, colorScheme: "light" });
  await page.goto(`${stage.base}clusters/local/status`);
  await live(page);
  // The page draws what it was sent at first, then what has gone on since.
  await page.waitForTimeout(3_000);
  await page.screenshot({ path: file });
  console.log(file);
} finally {
  await browser.close();
  await stage.stop();
}
