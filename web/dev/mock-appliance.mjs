// The appliance's REST, made up: enough to look at the shell's pages.
const clusters = [
  {
    name: "local",
    user: "me",
    status: "RUNNING",
    reason: null,
    last_lines: [],
    options: {},
    start_time: Date.now() - 5e6,
    stop_time: null,
    target: 4,
    adapt: null,
    workers: 4,
    nthreads: 4,
    memory_limit: 4 * 2 ** 30,
    scheduler_address: "tcp://127.0.0.1:8786",
    gateway_address: null,
    dashboard: "clusters/local/status",
    idle_timeout: null,
    max_lifetime: null,
  },
  {
    name: "0f3c9a1e7b",
    user: "me",
    status: "RUNNING",
    reason: null,
    last_lines: [],
    options: {},
    start_time: Date.now() - 9e5,
    stop_time: null,
    target: 2,
    adapt: { minimum: 1, maximum: 8 },
    workers: 2,
    nthreads: 2,
    memory_limit: 2 ** 31,
    scheduler_address: null,
    gateway_address: "gateway://127.0.0.1:8787/0f3c9a1e7b",
    dashboard: "clusters/0f3c9a1e7b/status",
    idle_timeout: 600,
    max_lifetime: null,
  },
  {
    name: "broken",
    user: "you",
    status: "FAILED",
    reason: "the scheduler ended with exit code 101",
    last_lines: ["thread main panicked at src/x.rs"],
    options: {},
    start_time: Date.now() - 4e6,
    stop_time: Date.now() - 3e6,
    target: 0,
    adapt: null,
    workers: 0,
    nthreads: 4,
    memory_limit: 0,
    scheduler_address: null,
    gateway_address: null,
    dashboard: null,
    idle_timeout: null,
    max_lifetime: null,
  },
];
const OPTIONS = [
  { field: "worker_cores", label: "Cores of a worker", default: 2, spec: { type: "int", min: 1 } },
  { field: "worker_memory", label: "Memory of a worker (GiB)", default: 4, spec: { type: "float", min: 0.1 } },
  {
    field: "python",
    label: "Python: an environment or interpreter (empty: the usual one)",
    default: "",
    spec: { type: "string" },
  },
  { field: "environment", label: "Environment variables", default: {}, spec: { type: "mapping" } },
  { field: "size", label: "Size", default: "small", spec: { type: "select", options: ["small", "large"] } },
  { field: "nanny", label: "Watch and restart worker processes", default: true, spec: { type: "bool" } },
];
const ANSWERS = {
  "/": { version: "0.1.0", pid: 1, started_ms: Date.now() - 5e6, addresses: [], user: { name: "me", admin: true } },
  "/clusters": { clusters },
  "/options": { options: OPTIONS },
  "/host": {
    name: "workstation",
    kernel: "6.8.0",
    cores: 16,
    memory: 60 * 2 ** 30,
    memory_total: 64 * 2 ** 30,
    memory_available: 30 * 2 ** 30,
    load: [3.2, 2.9, 2.1],
    uptime: 500_000,
  },
  "/tokens": {
    tokens: [
      {
        id: "a1b2",
        label: "nightly script",
        user: "me",
        role: "user",
        created_time: Date.now() - 1e9,
        expires_time: Date.now() + 1e9,
        used_time: Date.now() - 1e6,
        expired: false,
      },
    ],
  },
  "/settings": {
    up: { host: "127.0.0.1", port: 8787 },
    workers: { nworkers: "auto" },
    gateway: { auth: { type: "local" } },
    log: { format: "text" },
  },
  "/history": {
    clusters: [
      {
        name: "yesterday",
        user: "me",
        status: "STOPPED",
        reason: "idle for 10 minutes",
        start_time: Date.now() - 9e7,
        stop_time: Date.now() - 8e7,
      },
    ],
    computations: [
      {
        cluster: "local",
        id: "c1",
        start_time: Date.now() - 5e5,
        stop_time: Date.now() - 4e5,
        body: { groups: ["inc", "sum"], tasks: 1_200 },
      },
    ],
  },
  "/peers": [
    {
      name: "lab-2",
      state: "up",
      address: "10.0.0.7",
      silent_ms: 800,
      clock_skew_ms: 12,
      facts: {
        cores: 8,
        memory_bytes: 2 ** 35,
        memory_free_bytes: 2 ** 34,
        load: 1.1,
        python: "3.11.7",
        version: "0.1.0",
      },
      groups: [{ cluster: "local", phase: "running", running: 2, note: "" }],
    },
    {
      name: "lab-3",
      state: "drained",
      address: "10.0.0.8",
      silent_ms: 1500,
      clock_skew_ms: -64_000,
      facts: { cores: 4, memory_bytes: 2 ** 34, memory_free_bytes: 2 ** 33, load: 0, python: null, version: "0.1.0" },
      groups: [{ cluster: "local", phase: "failed", running: 0, note: "the disk is full" }],
    },
  ],
};

/** Answers what belongs to the appliance; false for all else. */
export async function appliance(request, response, url) {
  if (url.pathname === "/api/where") return false;
  if (!url.pathname.startsWith("/api/rask/v1")) return false;
  const path = url.pathname.slice("/api/rask/v1".length) || "/";
  if (path === "/events") {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    return true;
  }
  if (path.endsWith("/logs")) {
    response.writeHead(200, { "Content-Type": "text/plain" });
    response.end(
      Array.from(
        { length: 80 },
        (_, at) =>
          `[scheduler] 2026-01-01T00:00:${String(at % 60).padStart(2, "0")}Z ${at % 9 === 4 ? "WARN worker is slow" : "INFO worker joined"}\n`,
      ).join(""),
    );
    return true;
  }
  const json = (status, body) =>
    response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
  if (path.endsWith("/logs/index")) json(200, { workers: { "local-0": [] } });
  else if (path.endsWith("/credentials"))
    json(200, {
      gateway_address: "gateway://127.0.0.1:8787/x",
      tls_cert: "-----BEGIN CERTIFICATE-----\n...",
      tls_key: "-----BEGIN PRIVATE KEY-----\n...",
    });
  else if (request.method === "POST" && path === "/tokens")
    json(200, { secret: "rask_abcdefghijklmnop", token: ANSWERS["/tokens"].tokens[0] });
  else if (request.method !== "GET") json(200, { ok: true, msg: null });
  else json(ANSWERS[path] ? 200 : 404, ANSWERS[path] ?? { error: "not found", remedy: "" });
  return true;
}
