// All workers as a table.
import * as show from "../base/format";
import { num, obj, str } from "../base/rows";
import { Panel } from "../ui/Panel";
import { Table, type Column } from "../ui/Table";
import { Bar } from "../ui/Bars";
import { MEMORY_PARTS, NoWorkers, useWorkers, workerHref, type Worker } from "./parts";

const figure = (label: string, field: string, as: (value: unknown) => string): Column<Worker> => ({
  label,
  num: true,
  value: (worker) => num(worker.row, field),
  show: (worker) => as(worker.row[field]),
});

const COLUMNS: readonly Column<Worker>[] = [
  {
    label: "Worker",
    value: (worker) => worker.name,
    show: (worker) => (
      <a href={workerHref(worker.address)} data-go>
        {worker.name}
      </a>
    ),
  },
  {
    label: "Status",
    value: (worker) => str(worker.row, "status"),
    show: (worker) => <WorkerStatus status={str(worker.row, "status")} />,
  },
  { label: "Host", value: (worker) => str(worker.row, "host") },
  figure("Threads", "nthreads", show.count),
  {
    label: "CPU",
    num: true,
    value: (worker) => num(worker.row, "cpu"),
    show: (worker) => (
      <Gauge
        value={num(worker.row, "cpu")}
        most={num(worker.row, "nthreads", 1) * 100}
        text={show.percent(worker.row.cpu)}
        tone="cpu"
      />
    ),
  },
  {
    label: "Memory",
    num: true,
    value: (worker) => num(worker.row, "memory"),
    show: (worker) => <MemoryCell worker={worker} />,
  },
  figure("Limit", "limit", (value) => (value === 0 ? "none" : show.bytes(value))),
  figure("Processing", "processing", show.count),
  figure("Running", "executing", show.count),
  figure("Ready", "ready", show.count),
  figure("Waiting", "waiting", show.count),
  figure("In memory", "nkeys", show.count),
  figure("Results", "nbytes", show.bytes),
  figure("Spilled", "spilled", show.bytes),
  figure("Occupancy", "occupancy", show.seconds),
  figure("Read", "net_read", show.rate),
  figure("Written", "net_write", show.rate),
  figure("Files open", "fds", show.count),
  { label: "Resources", value: (worker) => resources(worker) },
  {
    label: "Last seen",
    num: true,
    value: (worker) => num(worker.row, "last_seen"),
    show: (worker) => show.clock(worker.row.last_seen),
  },
  { label: "Address", value: (worker) => worker.address, show: (worker) => <span class="mono">{worker.address}</span> },
];

function resources(worker: Worker): string {
  return Object.entries(obj(worker.row, "resources"))
    .map(([name, value]) => `${name} ${show.text(value)}`)
    .join(", ");
}

function Gauge({ value, most, text, tone }: { value: number; most: number; text: string; tone: string }) {
  return (
    <span class="gauge">
      <Bar parts={[{ name: text, value, tone }]} most={most} />
      <span>{text}</span>
    </span>
  );
}

function MemoryCell({ worker }: { worker: Worker }) {
  const limit = num(worker.row, "limit");
  const parts = MEMORY_PARTS.filter((part) => part.field !== "spilled").map((part) => ({
    name: part.name,
    tone: part.tone,
    value: num(worker.row, part.field),
  }));
  return (
    <span class="gauge">
      <Bar parts={parts} most={limit > 0 ? limit : Math.max(1, num(worker.row, "memory"))} />
      <span>{show.bytes(worker.row.memory)}</span>
    </span>
  );
}

export function WorkerStatus({ status }: { status: string }) {
  const tone = status === "running" ? "good" : status === "paused" ? "bad" : "warn";
  return <span class={`pill ${tone}`}>{status.replace(/_/g, " ") || "unknown"}</span>;
}

/** The sortable table of all workers. */
export function Workers() {
  const workers = useWorkers();
  const sum = (field: string): number => workers.reduce((all, worker) => all + num(worker.row, field), 0);
  const paused = workers.filter((worker) => str(worker.row, "status") === "paused").length;
  const summary = `${show.many(workers.length, "worker")}, ${show.many(sum("nthreads"), "thread")}, ${show.bytes(sum("memory"))} used${paused > 0 ? `, ${paused} paused` : ""}`;
  return (
    <Panel title="All workers" summary={summary} class="flush">
      <Table
        columns={COLUMNS}
        rows={workers}
        id={(worker) => worker.address}
        caption="Workers"
        sort={1}
        empty={<NoWorkers />}
      />
    </Panel>
  );
}
