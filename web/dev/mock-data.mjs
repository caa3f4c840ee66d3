// What the made-up cluster says. Numbers wander with the clock, so that the page has something to move.
const PREFIXES = ["inc", "random_sample", "sum-chunk", "read-parquet", "getitem", "merge_chunk", "store-map"];
const WORKERS = Array.from({ length: 6 }, (_, at) => ({
  address: `tcp://127.0.0.1:${40_001 + at}`,
  name: `local-${at}`,
  threads: 4,
}));
const GIB = 2 ** 30;
const wave = (phase, speed = 1) => 0.5 + 0.5 * Math.sin((Date.now() / 4_000) * speed + phase);
let seed = 7;
const random = () => {
  seed = (seed * 16_807) % 2_147_483_647;
  return seed / 2_147_483_647;
};

/** A block of `count` rectangles that end about now. */
export function block(count, first, from, stop = Date.now(), span = first ? 55_000 : 500) {
  const lanes = WORKERS.length * 4;
  const bytes = new ArrayBuffer(24 + count * 23);
  const head = new DataView(bytes);
  head.setUint8(0, 2);
  head.setUint8(1, 1);
  head.setUint8(2, first ? 1 : 0);
  head.setUint32(4, count, true);
  head.setUint32(12, from + count, true);
  const at = (offset) => 24 + offset * count;
  const columns = [
    new Float64Array(bytes, at(0), count),
    new Float32Array(bytes, at(8), count),
    new Uint32Array(bytes, at(12), count),
    new Uint16Array(bytes, at(16), count),
    new Uint16Array(bytes, at(18), count),
    new Uint16Array(bytes, at(20), count),
    new Uint8Array(bytes, at(22), count),
  ];
  const each = Math.ceil(count / lanes);
  for (let row = 0; row < count; row += 1) {
    const lane = row % lanes;
    const turn = Math.floor(row / lanes);
    const width = span / each;
    const kind = random();
    columns[0][row] = stop - span + turn * width + random() * width * 0.05;
    columns[1][row] = width * (0.4 + random() * 0.5);
    columns[2][row] = from + row;
    columns[3][row] = lane;
    columns[4][row] = Math.floor((turn / each) * 3 + random() * 4) % PREFIXES.length;
    columns[5][row] = 1;
    columns[6][row] = kind < 0.08 ? 1 : kind < 0.1 ? 4 : kind < 0.105 ? 6 : kind < 0.12 ? 2 : 0;
  }
  return new Uint8Array(bytes);
}

const counts = (index) => ({
  released: 300 * index,
  waiting: Math.round(40 * wave(index)),
  queued: 20 * index,
  no_worker: 0,
  processing: Math.round(16 * wave(index)),
  memory: 120 + 30 * index,
  erred: index === 2 ? 3 : 0,
});

function workerRow(worker, at) {
  const memory = GIB * (1 + 2.4 * wave(at));
  return {
    name: worker.name,
    host: "127.0.0.1",
    status: at === 5 ? "paused" : "running",
    nthreads: 4,
    cpu: 400 * wave(at * 2),
    memory,
    limit: 4 * GIB,
    managed: memory * 0.5,
    unmanaged: memory * 0.3,
    recent: memory * 0.2,
    spilled: at === 2 ? GIB / 3 : 0,
    nkeys: 120 + at,
    nbytes: memory * 0.5,
    processing: Math.round(9 * wave(at)),
    executing: Math.round(4 * wave(at)),
    ready: 3,
    waiting: 1,
    in_flight: 2,
    occupancy: 12 * wave(at),
    net_read: 4e6 * wave(at),
    net_write: 3e6 * wave(at + 1),
    disk_read: 1e5,
    disk_write: 2e6 * wave(at + 2),
    fds: 41 + at,
    transfer_in: 2e7 * wave(at),
    transfer_out: 1e7 * wave(at + 1),
    loop: 0.02,
    last_seen: Date.now() / 1000,
    resources: at === 0 ? { GPU: 1 } : {},
    nanny: "tcp://127.0.0.1:39001",
    engine: "stock",
    local_directory: "/tmp/dask-scratch-space/worker-x1",
    pid: 4_000 + at,
    bandwidth: 1e8,
  };
}

const byIndex = (list, row) =>
  Object.fromEntries(list.map((item, at) => [typeof item === "string" ? item : item.address, row(item, at)]));

function samples(row, count = 120) {
  const now = Math.floor(Date.now() / 2_000);
  return Object.fromEntries(
    Array.from({ length: count }, (_, at) => [
      String(now - count + at),
      { t: (now - count + at) * 2, ...row(now - count + at) },
    ]),
  );
}

const TOPICS = {
  overview: () => ({
    now: {
      version: "0.1.0",
      address: "tcp://127.0.0.1:8786",
      id: "Scheduler-1",
      started: Date.now() / 1000 - 5_000,
      uptime: 5_000,
      workers: 6,
      threads: 24,
      hosts: 1,
      idle: 0,
      saturated: 3,
      paused: 1,
      retiring: 0,
      clients: 2,
      desired_workers: 6,
      tasks: 4_211,
      released: 2_100,
      waiting: 240,
      queued: 120,
      no_worker: 0,
      processing: 51,
      memory: 1_690,
      erred: 3,
      done_total: 1_250_341,
      erred_total: 12,
      tasks_per_s: 812.4 * wave(1),
      transitions_per_s: 5_000,
      occupancy: 44,
      cpu: 1_500 * wave(2),
      cpu_max: 2_400,
      executing: 21,
      mem_managed: 7 * GIB,
      mem_unmanaged: 4 * GIB,
      mem_recent: 2 * GIB * wave(1),
      mem_spilled: GIB / 3,
      mem_process: 13 * GIB,
      mem_limit: 24 * GIB,
      bandwidth: 1.1e8,
      scheduler_cpu: 12,
      scheduler_mem: 6e7,
      viewers: 1,
      limit: {
        what: "workers",
        text: "Waiting for workers: all 24 threads are busy and 360 tasks wait",
        link: "workers",
      },
      problem:
        wave(0, 0.2) > 0.5
          ? {
              text: "Worker local-5 is paused: its memory is 94 % full",
              link: "worker?address=tcp%3A%2F%2F127.0.0.1%3A40006",
            }
          : null,
    },
  }),
  workers: () => byIndex(WORKERS, workerRow),
  prefixes: () =>
    byIndex(PREFIXES, (_, at) => ({
      color: at,
      ...counts(at),
      total: 500,
      done: 9_000,
      duration: 0.02 * (at + 1),
      compute: 30 * at,
    })),
  groups: () =>
    Object.fromEntries(
      PREFIXES.map((name, at) => [
        `${name}-8f1c${at}`,
        {
          prefix: name,
          color: at,
          ...counts(at),
          forgotten: 0,
          total: 500,
          deps: at > 0 ? [`${PREFIXES[at - 1]}-8f1c${at - 1}`] : [],
        },
      ]),
    ),
  memory_by_key: () => byIndex(PREFIXES, (_, at) => ({ color: at, nbytes: GIB * wave(at), keys: 120 })),
  compute_by_key: () =>
    byIndex(PREFIXES, (_, at) => ({
      color: at,
      compute: 30 * (at + 1),
      transfer: 4 * at,
      disk_read: at === 3 ? 9 : 0,
      disk_write: 0,
      deserialize: 1,
      other: 0,
      runs: 900,
      mean: 0.03,
    })),
  time_by_action: () => ({
    compute: { secs: 400 },
    transfer: { secs: 60 },
    "disk-read": { secs: 9 },
    deserialize: { secs: 4 },
  }),
  system: () =>
    samples((at) => ({
      sched_cpu: 8 + 4 * Math.sin(at / 5),
      sched_mem: 6e7 + (at % 100),
      sched_fds: 44,
      host_cpu: 50 + 40 * Math.sin(at / 9),
      host_mem: 14 * GIB,
      host_mem_total: 32 * GIB,
      host_net_read: 3e6,
      host_net_write: 2e6,
      host_disk_read: 0,
      host_disk_write: 1e6,
      workers_cpu: 1_200 + 900 * Math.sin(at / 7),
      workers_mem: 13 * GIB,
      workers_limit: 24 * GIB,
      workers_net_read: 2e6,
      workers_net_write: 2e6,
      workers_disk_read: 0,
      workers_disk_write: 4e5,
      workers_fds: 240,
      tasks_per_s: 500 + 300 * Math.sin(at / 4),
      processing: 40,
    })),
  workers_series: () =>
    samples((at) =>
      Object.fromEntries(
        ["cpu", "memory", "net_read", "net_write", "disk_read", "disk_write"].map((field) => [
          field,
          byIndex(WORKERS, (_, n) => (field === "memory" ? GIB * (1 + wave(n)) : 200 + 150 * Math.sin(at / 6 + n))),
        ]),
      ),
    ),
  events: () =>
    Object.fromEntries(
      Array.from({ length: 40 }, (_, at) => [
        String(at),
        {
          t: Date.now() / 1000 - 90 + at,
          topic: at % 3 ? "scheduler" : WORKERS[0].address,
          text: at % 3 ? "worker added: local-2" : "paused: memory 81 % full",
          data: {},
        },
      ]),
    ),
  stealing: () => ({
    total: { count: 41, cost: 1.2, by: [] },
    ...Object.fromEntries(
      Array.from({ length: 12 }, (_, at) => [
        String(at),
        {
          t: Date.now() / 1000 - at,
          key: `inc-${at}`,
          from: WORKERS[0].address,
          to: WORKERS[1].address,
          cost: 0.01,
          kind: "confirm",
        },
      ]),
    ),
  }),
  bandwidth: () => ({
    "type numpy.ndarray": { kind: "type", name: "numpy.ndarray", bandwidth: 4e8 },
    "type pandas.DataFrame": { kind: "type", name: "pandas.DataFrame", bandwidth: 1.2e8 },
    ...Object.fromEntries(
      [1, 2, 3].map((at) => [
        `pair ${at}`,
        { kind: "pair", from: WORKERS[0].address, to: WORKERS[at].address, bandwidth: 1e8 * at, bytes: 1e9, n: 12 },
      ]),
    ),
  }),
  fine: () =>
    Object.fromEntries(
      PREFIXES.flatMap((prefix, at) =>
        ["thread-cpu", "thread-noncpu", "deserialize", "disk-read"].map((activity, n) => [
          `execute ${prefix} ${activity}`,
          {
            context: "execute",
            prefix,
            color: at,
            activity,
            unit: "seconds",
            span: "default",
            value: (at + 1) * (4 - n) * 3,
          },
        ]),
      ),
    ),
  exceptions: () => ({
    a1: {
      type: "ZeroDivisionError",
      text: "division by zero",
      traceback: [
        "Traceback (most recent call last):",
        '  File "notebook.py", line 3, in divide',
        "    return 1 / x",
        "ZeroDivisionError: division by zero",
      ],
      count: 3,
      keys: ["sum-chunk-1", "sum-chunk-2", "sum-chunk-3"],
      prefix: "sum-chunk",
      color: 2,
      workers: [WORKERS[0].address],
      first: Date.now() / 1000 - 300,
      last: Date.now() / 1000 - 20,
    },
  }),
  shuffle: () => ({
    e7f1: {
      run: 1,
      n_in: 20,
      n_out: 20,
      workers: 6,
      comm_written: 3e8,
      comm_read: 3e8,
      disk_written: 2e8,
      disk_read: 1e8,
      comm_memory: 1e7,
      disk_memory: 1e6,
    },
  }),
  coordination: () => ({
    "lock x": { kind: "lock", name: "x", holder: "Client-1", waiting: 2 },
    "semaphore db": { kind: "semaphore", name: "db", leases: 2, max_leases: 3, waiting: 0 },
    "queue results": { kind: "queue", name: "results", size: 4, maxsize: 10, waiting: 0 },
    "event go": { kind: "event", name: "go", is_set: true, waiting: 0 },
  }),
  clients: () => ({
    "Client-6a1e": {
      wants: 1_200,
      last_seen: Date.now() / 1000,
      since: Date.now() / 1000 - 400,
      python: "3.12.4",
      dask: "2026.8.0",
      distributed: "2026.8.0",
      host: "laptop",
      hung_up: false,
    },
  }),
  logs: () =>
    Object.fromEntries(
      Array.from({ length: 20 }, (_, at) => [
        String(at),
        {
          t: Date.now() / 1000 - at,
          level: at % 7 === 3 ? "WARN" : "INFO",
          text: at % 7 === 3 ? "worker local-5 missed two heartbeats" : "worker local-2 joined with 4 threads",
        },
      ]),
    ),
  graph: () => {
    const nodes = {};
    const add = (k, c, s, d) => (nodes[String(Object.keys(nodes).length)] = { k, p: k.split("-")[0], c, s, d });
    for (let at = 0; at < 40; at += 1) add(`random_sample-${at}`, 1, at < 30 ? "memory" : "processing", []);
    for (let at = 0; at < 40; at += 1) add(`inc-${at}`, 0, at < 20 ? "memory" : "waiting", [String(at)]);
    for (let at = 0; at < 10; at += 1)
      add(
        `sum-chunk-${at}`,
        2,
        at === 2 ? "erred" : "waiting",
        [0, 1, 2, 3].map((n) => String(40 + at * 4 + n)),
      );
    add(
      "sum-all",
      2,
      "waiting",
      Array.from({ length: 10 }, (_, n) => String(80 + n)),
    );
    return { meta: { mode: "tasks", tasks: 91, max: 5_000 }, ...nodes };
  },
};

const LANES = Object.fromEntries(
  WORKERS.flatMap((worker, at) =>
    Array.from({ length: 4 }, (_, n) => [
      String(at * 4 + n),
      { worker: worker.address, name: worker.name, host: "127.0.0.1", thread: 100 + n, n, alive: true },
    ]),
  ),
);
const NAMES = Object.fromEntries(PREFIXES.map((name, at) => [String(at), { name, color: at }]));

/** What a topic brings in full. */
export function snapshot(name) {
  if (name === "stream") return { lanes: { full: LANES }, names: { full: NAMES } };
  const topic = TOPICS[name];
  return topic ? { [name]: { full: topic() } } : {};
}

const frames = (name, value, children = []) => ({
  name,
  file: name.includes(".") ? "/venv/lib/python3.12/site-packages/pandas/core/frame.py" : "/home/me/notebook.py",
  line: 12,
  value,
  children,
});

const TASK = {
  key: "sum-chunk-2",
  state: "erred",
  prefix: "sum-chunk",
  group: "sum-chunk-8f1c2",
  nbytes: null,
  type: "int",
  priority: [0, 1, 2],
  retries: 0,
  suspicious: 1,
  why: {
    text: "It failed: division by zero",
    reasons: [{ text: "It was tried once and has no retries left.", link: "exceptions" }],
  },
  where: [],
  waits_for: [],
  dependencies: [
    { key: "inc-8", state: "memory" },
    { key: "inc-9", state: "memory" },
  ],
  dependencies_total: 2,
  dependents: [{ key: "sum-all", state: "waiting" }],
  dependents_total: 1,
  wanted_by: ["Client-6a1e"],
  restrictions: { workers: [], hosts: [], resources: {}, loose: false },
  exception: {
    type: "ZeroDivisionError",
    text: "division by zero",
    traceback: [
      "Traceback (most recent call last):",
      '  File "notebook.py", line 3, in divide',
      "ZeroDivisionError: division by zero",
    ],
  },
  runs: [
    {
      worker: WORKERS[0].address,
      thread: 1,
      start: Date.now() / 1000 - 9,
      stop: Date.now() / 1000 - 8.2,
      action: "compute",
      ok: false,
    },
  ],
  story: [
    { t: Date.now() / 1000 - 10, start: "waiting", finish: "processing", stimulus: "task-finished-1" },
    { t: Date.now() / 1000 - 8, start: "processing", finish: "erred", stimulus: "task-erred-2" },
  ],
};

/** The answer to a GET; undefined for what is no API, null for what is not there. */
export function answers(path, query, rects) {
  if (path === "api/where")
    return { kind: "cluster", version: "0.1.0", name: "mock", address: "tcp://127.0.0.1:8786", prefix: "" };
  if (path === "api/stream/bounds") return { first: Date.now() / 1000 - 600, last: Date.now() / 1000, count: rects };
  if (path === "api/stream")
    return block(
      5_000,
      true,
      0,
      Number(query.get("to")) * 1000,
      (Number(query.get("to")) - Number(query.get("from"))) * 1000,
    );
  if (path === "api/rect")
    return {
      id: Number(query.get("id")),
      key: `inc-${query.get("id")}`,
      prefix: "inc",
      worker: WORKERS[0].address,
      ok: true,
    };
  if (path === "api/find")
    return {
      tasks: [{ key: `inc-${query.get("q")}`, state: "memory", prefix: "inc" }],
      workers: [],
      prefixes: PREFIXES.filter((name) => name.includes(query.get("q") ?? "")),
    };
  if (path === "api/task") return query.get("key") === "none" ? null : { ...TASK, key: query.get("key") };
  if (path === "api/worker")
    return {
      identity: {},
      metrics: {},
      processing: [{ key: "inc-9", state: "processing", since: Date.now() / 1000 }],
      keys_total: 130,
      has_what: [{ key: "inc-1", nbytes: 4e6 }],
    };
  if (path === "api/workers/logs")
    return {
      lines: [
        ["INFO", "Registered to: tcp://127.0.0.1:8786"],
        ["WARNING", "Worker is at 81% memory usage. Pausing worker."],
      ],
    };
  if (path === "api/callstack")
    return { [WORKERS[0].address]: { "inc-9": ['  File "notebook.py", line 3, in inc\n    time.sleep(1)'] } };
  if (path === "api/profile")
    return {
      ...frames("root", 1_000, [
        frames("execute", 980, [
          frames("inc", 400, [frames("sleep", 380)]),
          frames("DataFrame.merge", 500, [frames("core.join", 300), frames("core.take", 150)]),
        ]),
        frames("idle", 20),
      ]),
      seconds_per_sample: 0.01,
    };
  if (path === "api/hardware")
    return { memory: { "2 kiB": 4e9, "1 MiB": 9e9 }, disk: { "1 MiB": 4e8 }, network: { "1 MiB": 1e9 } };
  return path.startsWith("api/") && !path.startsWith("api/rask") ? null : undefined;
}
