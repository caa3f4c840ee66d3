// The dashboard's figures, with stock's page beside it: redraw of 100,000 rectangles while panning and zooming, size of
// the page, first paint; and what the scheduler retains.
//
//   node tests/web/figures.mjs [--rects 100000] [--retained 1000000] [--rounds 3]
//
// RASK_BIN, VIRTUAL_ENV (with bokeh for stock's page) and CHROMIUM as for tests/web/run. Workers are simulated. A redraw is
// the time of one change of view until the browser rests again, less what the same takes without a change; what fits into
// a frame is timed by the page itself. What watching
// costs the scheduler: tests/bench/bench_viewers.py.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BINARY, Child, freePort, PYTHON, ROOT, startBrowser, until } from "./stage.mjs";

const option = (name, fallback) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? fallback : Number(process.argv[at + 1]);
};
const RECTS = option("rects", 100_000);
const RETAINED = option("retained", 0);
const ROUNDS = option("rounds", 3);
const STEPS = 12;
const LOADS = 7;
const MINUTES = 60_000;

const middle = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
const spread = (list, unit) =>
  `${middle(list).toFixed(1)} ${unit} (${Math.min(...list).toFixed(1)}..${Math.max(...list).toFixed(1)})`;

/** A scheduler of either kind with simulated workers, and `count` tasks that ran on them. */
async function startFull(kind, count) {
  const folder = await mkdtemp(join(tmpdir(), "rask-figures-"));
  const [http, comm] = [await freePort(), await freePort()];
  const address = `tcp://127.0.0.1:${comm}`;
  const env = { DASK_CONFIG: folder, RASK_STATE_DIR: folder };
  const [program, first] = kind === "rask" ? [BINARY, []] : [PYTHON, ["-m", "dask"]];
  const scheduler = new Child(
    program,
    [...first, "scheduler", "--host", "127.0.0.1", "--port", String(comm), "--dashboard-address", `127.0.0.1:${http}`],
    env,
    folder,
  );
  const base = `http://127.0.0.1:${http}/`;
  const stop = async () => {
    await zero?.stop();
    await scheduler.stop();
    await rm(folder, { recursive: true, force: true });
  };
  let zero;
  try {
    await until(async () => (await fetch(`${base}health`)).ok, `${kind}'s dashboard`, MINUTES);
    zero = new Child(PYTHON, [join(ROOT, "tests/bench/zero.py"), address, "-n", "16", "--claim-ms", "2"], env, folder);
    await until(() => zero.output.includes("registered"), "simulated workers", MINUTES);
    // Stock makes the plugin that collects rectangles when somebody first looks.
    await fetch(`${base}individual-task-stream`);
    const fill = new Child(PYTHON, [join(import.meta.dirname, "fill.py"), address, String(count)], env, folder);
    await until(() => fill.output.includes("ready"), `${count} tasks`, 10 * MINUTES);
    await fill.stop();
  } catch (error) {
    await stop();
    throw new Error(`${error.message}\n${scheduler.output.slice(-2_000)}`);
  }
  return { base, pid: scheduler.process.pid, stop };
}

/** Runs in the browser: how long each step takes until four frames have passed, with `change` or without. */
const timeSteps = `async (change, own, steps) => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const times = [];
  for (let step = 0; step < steps; step += 1) {
    await frame();
    const start = performance.now();
    change(step);
    for (let turn = 0; turn < 4; turn += 1) await frame();
    times.push({ whole: performance.now() - start, own: own() });
  }
  return times;
}`;

const OURS = {
  path: "tasks",
  held: `Number(document.querySelector(".stream canvas")?.dataset.held ?? 0)`,
  // Fits into a frame, so that frames do not tell: the page's own measure of its painting.
  own: `() => Number(document.querySelector(".stream canvas").dataset.paintMs)`,
  prepare: `document.querySelector(".stream-tools button[title^='All that']").click()`,
  change: (kind) => `(step) => {
    const canvas = document.querySelector(".stream canvas");
    const box = canvas.getBoundingClientRect();
    const turn = step % 2 === 0 ? 1 : -1;
    const delta = ${kind === "pan" ? "{ deltaX: 60 * turn }" : "{ deltaY: 40 * turn }"};
    canvas.dispatchEvent(new WheelEvent("wheel", { ...delta, clientX: box.left + box.width / 2, clientY: box.top + 50, bubbles: true, cancelable: true }));
  }`,
};

const FIGURE = `[...Bokeh.documents[0]._all_models.values()].find((model) => model.x_range && model.renderers?.length > 0)`;
const STOCKS = {
  path: "tasks",
  own: `() => 0.1`,
  held: `(window.Bokeh?.documents?.[0] ? (${FIGURE})?.renderers[0].data_source.get_length() : 0) ?? 0`,
  prepare: `(() => {
    const figure = ${FIGURE};
    const starts = figure.renderers[0].data_source.data.start;
    let [least, most] = [Infinity, -Infinity];
    for (const at of starts) [least, most] = [Math.min(least, at), Math.max(most, at)];
    figure.x_range.setv({ start: least, end: most });
  })()`,
  change: (kind) => `(step) => {
    const { x_range: range } = ${FIGURE};
    const turn = step % 2 === 0 ? 1 : -1;
    const span = range.end - range.start;
    const by = ${kind === "pan" ? "[0.05 * span * turn, 0.05 * span * turn]" : "[0.05 * span * turn, -0.05 * span * turn]"};
    range.setv({ start: range.start + by[0], end: range.end + by[1] });
  }`,
};

async function redraws(browser, stage, how) {
  const context = await browser.newContext({ viewport: { width: 1600, height: 900 } });
  const page = await context.newPage();
  await page.goto(stage.base + how.path);
  const held = await until(
    async () => {
      const count = await page.evaluate(how.held);
      return count >= RECTS * 0.95 && count;
    },
    `${RECTS} rectangles on the page`,
    MINUTES,
  );
  await page.evaluate(how.prepare);
  await page.waitForTimeout(2_000); // what the page does at first is not what is measured
  const rest = middle((await page.evaluate(`(${timeSteps})(() => {}, () => 0, ${STEPS})`)).map((step) => step.whole));
  const found = { held };
  for (const kind of ["pan", "zoom"])
    found[kind] = (await page.evaluate(`(${timeSteps})(${how.change(kind)}, ${how.own}, ${STEPS})`))
      .slice(2)
      .map((step) => Math.max(step.own, step.whole - rest));
  await context.close();
  return found;
}

async function loads(browser, stage) {
  const paints = [];
  let bytes = 0;
  for (let turn = 0; turn < LOADS; turn += 1) {
    const context = await browser.newContext({ viewport: { width: 1600, height: 900 } });
    const page = await context.newPage();
    await page.goto(`${stage.base}status`, { waitUntil: "load" });
    const seen = await until(
      () =>
        page.evaluate(`(() => {
      const paint = performance.getEntriesByName("first-contentful-paint")[0];
      const files = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].filter((one) => /navigation|script|link|css|img/.test(one.initiatorType));
      return paint && { at: paint.startTime, bytes: files.reduce((sum, one) => sum + one.encodedBodySize, 0) };
    })()`),
      "the first paint",
    );
    paints.push(seen.at);
    bytes = seen.bytes;
    await context.close();
  }
  return { paints, bytes };
}

const browser = await startBrowser();
const stages = {};
try {
  for (const kind of ["rask", "stock"]) stages[kind] = await startFull(kind, RECTS);
  const all = { rask: { pan: [], zoom: [] }, stock: { pan: [], zoom: [] } };
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [kind, how] of [
      ["rask", OURS],
      ["stock", STOCKS],
    ]) {
      const found = await redraws(browser, stages[kind], how);
      all[kind].held = found.held;
      for (const move of ["pan", "zoom"]) all[kind][move].push(...found[move]);
    }
  }
  for (const move of ["pan", "zoom"]) {
    for (const kind of ["rask", "stock"])
      console.log(`${move}: ${kind} redraws ${all[kind].held} rectangles in ${spread(all[kind][move], "ms")}`);
    console.log(`${move}: ${(middle(all.stock[move]) / middle(all.rask[move])).toFixed(1)} times faster`);
  }
  for (const kind of ["rask", "stock"]) {
    const { paints, bytes } = await loads(browser, stages[kind]);
    console.log(
      `${kind}: status page ${(bytes / 1024).toFixed(0)} KiB as sent, first paint after ${spread(paints, "ms")}`,
    );
  }
  await stages.stock.stop();
  delete stages.stock;
  if (RETAINED > 0) {
    await stages.rask.stop();
    stages.rask = await startFull("rask", RETAINED);
    const { count } = await (await fetch(`${stages.rask.base}api/stream/bounds`)).json();
    const { overview } = await (await fetch(`${stages.rask.base}api/state?topics=overview`)).json();
    console.log(
      `rask: ${count} rectangles retained after ${RETAINED} tasks, scheduler ${(overview.now.scheduler_mem / 2 ** 20).toFixed(0)} MiB`,
    );
  }
} finally {
  await browser.close();
  for (const stage of Object.values(stages)) await stage.stop();
}
