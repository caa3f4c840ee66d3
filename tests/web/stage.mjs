// Starts what the tests look at: the binary with workers, a computation, a browser. Stops everything by its pid.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

// Browser driver and accessibility rules are the page's own development dependencies.
const web = createRequire(join(import.meta.dirname, "../../web/package.json"));
const { chromium } = web("playwright-core");
export const AXE = web.resolve("axe-core/axe.min.js");

export const ROOT = join(import.meta.dirname, "../..");
export const BINARY =
  process.env.RASK_BIN ?? join(process.env.CARGO_TARGET_DIR ?? join(ROOT, "target"), "release/rask");
export const PYTHON = process.env.VIRTUAL_ENV ? join(process.env.VIRTUAL_ENV, "bin/python") : "python3";
/** A two-core machine under load starts Python processes in tens of seconds. */
const START_MS = 90_000;

/** Polls until `look` answers something true. */
export async function until(look, what, timeout = 20_000) {
  const end = Date.now() + timeout;
  let last;
  for (;;) {
    try {
      last = await look();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`not within ${timeout / 1_000} s: ${what} (last: ${last})`);
    await new Promise((done) => setTimeout(done, 100));
  }
}

/** A port that is free now. */
export function freePort() {
  return new Promise((done, fail) => {
    const server = createServer();
    server.on("error", fail);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

/** A child process whose output is kept for when something fails. */
export class Child {
  constructor(command, args, env = {}, cwd = ROOT) {
    this.output = "";
    const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(DASK|RASK)_/.test(name)));
    this.process = spawn(command, args, { env: { ...clean, ...env }, cwd, stdio: ["pipe", "pipe", "pipe"] });
    for (const stream of [this.process.stdout, this.process.stderr])
      stream.on("data", (text) => (this.output = (this.output + text).slice(-20_000)));
    this.process.on("error", (error) => (this.output += String(error)));
    this.ended = new Promise((done) => this.process.on("exit", done));
  }

  /** Asks, waits, kills. */
  async stop() {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    this.process.kill("SIGTERM");
    const late = setTimeout(() => this.process.kill("SIGKILL"), 20_000);
    await this.ended;
    clearTimeout(late);
  }
}

/** What is started unless a test says otherwise: workers of two threads each, and a computation. */
const USUAL = { workers: 2, script: "compute.py", said: "ready" };
const workerFlags = (count) => ["--nworkers", String(count), "--nthreads", "2", "--memory-limit", "1 GiB"];

/** `rask up` with its cluster `local`. Clusters outlive it, so it is asked to end this one first. */
async function runAppliance(folder, env, workers) {
  const [http, comm] = [await freePort(), await freePort()];
  const up = new Child(
    BINARY,
    ["up", "--port", String(http), "--scheduler-port", String(comm), ...workerFlags(workers)],
    env,
    folder,
  );
  const base = `http://127.0.0.1:${http}/`;
  const stop = async () => {
    await fetch(`${base}api/rask/v1/clusters/local`, { method: "DELETE" }).catch(() => null);
    await up.stop();
  };
  return { base, comm, stop, log: () => up.output };
}

/** A scheduler on its own, and workers. */
async function runScheduler(folder, env, workers) {
  const [http, comm] = [await freePort(), await freePort()];
  const scheduler = new Child(
    BINARY,
    ["scheduler", "--host", "127.0.0.1", "--port", String(comm), "--dashboard-address", `127.0.0.1:${http}`],
    env,
    folder,
  );
  const flags = ["worker", `tcp://127.0.0.1:${comm}`, ...workerFlags(workers)];
  const group = new Child(BINARY, flags, env, folder);
  const stop = async () => {
    await group.stop();
    await scheduler.stop();
  };
  return {
    base: `http://127.0.0.1:${http}/`,
    comm,
    stop,
    pid: scheduler.process.pid,
    log: () => scheduler.output + group.output,
  };
}

/** A stand-alone scheduler with workers, and a client that computes and holds results. */
export const startCluster = () => start(runScheduler, USUAL);

/** The same with the whole appliance and its cluster `local`. */
export const startAppliance = (wanted = {}) => start(runAppliance, { ...USUAL, ...wanted });

async function start(run, { workers, script, said }) {
  const folder = await mkdtemp(join(tmpdir(), "rask-web-"));
  const env = { RASK_STATE_DIR: join(folder, "state"), XDG_CONFIG_HOME: folder, DASK_CONFIG: folder };
  const { base, comm, stop, log, pid } = await run(folder, env, workers);
  const counts = async () => (await fetch(`${base}json/counts.json`)).json();
  let client = null;
  const end = async () => {
    await client?.stop();
    await stop();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await until(async () => (await counts()).workers === workers, `${workers} workers at ${base}`, START_MS);
    client = new Child(PYTHON, [join(import.meta.dirname, script), `tcp://127.0.0.1:${comm}`], env, folder);
    await until(() => client.output.includes(said), "the computation", START_MS);
  } catch (error) {
    await end();
    throw new Error(`${error.message}\n${log()}\n${client?.output ?? ""}`);
  }
  return { base, counts, pid, stop: end };
}

/** The made-up cluster of web/dev, for what needs more rectangles than a test can compute. */
export async function startMock(rects, port = 0) {
  const at = port || (await freePort());
  const mock = new Child("node", [join(ROOT, "web/dev/mock.mjs"), "--port", String(at), "--rects", String(rects)]);
  await until(() => mock.output.includes("http://"), "the made-up cluster");
  return { base: `http://127.0.0.1:${at}/clusters/mock/`, port: at, stop: () => mock.stop() };
}

const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-dev-shm-usage",
];

export function startBrowser() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: ARGUMENTS,
  });
}

/** A page that collects everything it should not have said or asked for. */
export async function openPage(browser, base, options = {}) {
  const context = await browser.newContext({
    viewport: { width: 900, height: 900 },
    reducedMotion: "reduce",
    ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const faults = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type()))
      faults.push(`console: ${message.text()} (${message.location().url})`);
  });
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(base) && !/^(data|blob|about):/.test(url)) faults.push(`left the origin: ${url}`);
  });
  return { context, page, faults };
}
