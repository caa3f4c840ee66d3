// Processor, memory, network, disk and files over time: of the workers, the scheduler, this machine.
import * as show from "../base/format";
import { hue } from "../base/palette";
import { maybe, num, obj, str, type Row } from "../base/rows";
import { dark } from "../base/theme";
import { peek, rows } from "../feed/store";
import { useTopics } from "../feed/subscription";
import { Series, type Line } from "../plots/Series";

const WAIT = "The first samples come within some seconds";

interface Samples {
  readonly times: number[];
  readonly rows: Row[];
}

/** Samples in the order of time. */
function useSamples(topic: string): Samples {
  useTopics([topic]);
  const sorted = [...rows(topic).values()].sort((a, b) => num(a, "t") - num(b, "t"));
  return { times: sorted.map((row) => num(row, "t")), rows: sorted };
}

interface LineSpec {
  readonly name: string;
  readonly field: string;
  readonly hue: number;
  readonly fill?: boolean;
  readonly dash?: boolean;
}

interface Chart {
  readonly title: string;
  readonly show: (value: unknown) => string;
  readonly least?: number;
  readonly lines: readonly LineSpec[];
}

const CHARTS: Record<string, Chart> = {
  workersCpu: {
    title: "CPU of the workers",
    show: show.percent,
    least: 100,
    lines: [{ name: "all workers", field: "workers_cpu", hue: 1, fill: true }],
  },
  workersMemory: {
    title: "Memory of the workers",
    show: show.bytes,
    lines: [
      { name: "used", field: "workers_mem", hue: 0, fill: true },
      { name: "limit", field: "workers_limit", hue: 7, dash: true },
    ],
  },
  workersNetwork: {
    title: "Network of the workers",
    show: show.rate,
    least: 1024,
    lines: [
      { name: "read", field: "workers_net_read", hue: 0 },
      { name: "written", field: "workers_net_write", hue: 2 },
    ],
  },
  workersDisk: {
    title: "Disk of the workers",
    show: show.rate,
    least: 1024,
    lines: [
      { name: "read", field: "workers_disk_read", hue: 4 },
      { name: "written", field: "workers_disk_write", hue: 9 },
    ],
  },
  rate: {
    title: "Tasks per second",
    show: show.number,
    least: 1,
    lines: [{ name: "finished", field: "tasks_per_s", hue: 3, fill: true }],
  },
  processing: {
    title: "Tasks processing",
    show: show.count,
    least: 1,
    lines: [{ name: "processing", field: "processing", hue: 1, fill: true }],
  },
  schedulerCpu: {
    title: "CPU of the scheduler",
    show: show.percent,
    least: 10,
    lines: [{ name: "scheduler", field: "sched_cpu", hue: 6, fill: true }],
  },
  schedulerMemory: {
    title: "Memory of the scheduler",
    show: show.bytes,
    lines: [{ name: "scheduler", field: "sched_mem", hue: 6, fill: true }],
  },
  files: {
    title: "Open files",
    show: show.count,
    least: 10,
    lines: [
      { name: "scheduler", field: "sched_fds", hue: 6 },
      { name: "workers", field: "workers_fds", hue: 1 },
    ],
  },
  hostCpu: {
    title: "CPU of this machine",
    show: show.percent,
    least: 100,
    lines: [{ name: "all cores", field: "host_cpu", hue: 8, fill: true }],
  },
  hostMemory: {
    title: "Memory of this machine",
    show: show.bytes,
    lines: [
      { name: "used", field: "host_mem", hue: 8, fill: true },
      { name: "all", field: "host_mem_total", hue: 7, dash: true },
    ],
  },
  hostNetwork: {
    title: "Network of this machine",
    show: show.rate,
    least: 1024,
    lines: [
      { name: "read", field: "host_net_read", hue: 0 },
      { name: "written", field: "host_net_write", hue: 2 },
    ],
  },
  hostDisk: {
    title: "Disk of this machine",
    show: show.rate,
    least: 1024,
    lines: [
      { name: "read", field: "host_disk_read", hue: 4 },
      { name: "written", field: "host_disk_write", hue: 9 },
    ],
  },
};

function draw(chart: Chart, samples: Samples) {
  const lines: Line[] = chart.lines.map((line) => ({
    name: line.name,
    colour: hue(line.hue, dark.value),
    values: samples.rows.map((row) => maybe(row, line.field)),
    ...(line.fill ? { fill: true } : {}),
    ...(line.dash ? { dash: true } : {}),
  }));
  return (
    <Series
      key={chart.title}
      title={chart.title}
      times={samples.times}
      lines={lines}
      show={chart.show}
      binary={chart.show === show.bytes || chart.show === show.rate}
      least={chart.least ?? 0}
      empty={WAIT}
    />
  );
}

/** All charts. */
export function System() {
  const samples = useSamples("system");
  return <Charts names={Object.keys(CHARTS)} samples={samples} />;
}

export function Charts({ names, samples }: { names: readonly string[]; samples: Samples }) {
  return (
    <div class="charts">
      {names.map((name) => {
        const chart = CHARTS[name];
        return chart ? draw(chart, samples) : null;
      })}
    </div>
  );
}

/** The scheduler's own four. */
export function SchedulerSystem() {
  return <Charts names={["schedulerCpu", "schedulerMemory", "files", "processing"]} samples={useSamples("system")} />;
}

/** Rates of work and of the scheduler side by side: who waits for whom. */
export function Contention() {
  return <Charts names={["rate", "schedulerCpu", "hostCpu"]} samples={useSamples("system")} />;
}

const MOST_LINES = 16;
const PER_WORKER: Record<string, { title: string; show: (value: unknown) => string; least: number }> = {
  cpu: { title: "CPU by worker", show: show.percent, least: 100 },
  memory: { title: "Memory by worker", show: show.bytes, least: 1 },
  net_read: { title: "Network read by worker", show: show.rate, least: 1024 },
  net_write: { title: "Network written by worker", show: show.rate, least: 1024 },
  disk_read: { title: "Disk read by worker", show: show.rate, least: 1024 },
  disk_write: { title: "Disk written by worker", show: show.rate, least: 1024 },
};

/** One line per worker, for some measures; or only for one worker. */
export function WorkerSeries({ fields, only }: { fields: readonly string[]; only?: string }) {
  useTopics(["workers"]);
  const samples = useSamples("workers_series");
  const addresses = only
    ? [only]
    : [...new Set(samples.rows.flatMap((row) => Object.keys(obj(row, "cpu"))))].sort().slice(0, MOST_LINES);
  return (
    <div class="charts">
      {fields.map((field) => {
        const spec = PER_WORKER[field];
        if (!spec) return null;
        const lines = addresses.map((address, at) => ({
          name: str(peek("workers").get(address), "name") || show.shortAddress(address),
          colour: hue(at, dark.value),
          fill: addresses.length === 1,
          values: samples.rows.map((row) => maybe(obj(row, field), address)),
        }));
        return (
          <Series
            key={field}
            title={spec.title}
            times={samples.times}
            lines={lines}
            show={spec.show}
            binary={field !== "cpu"}
            least={spec.least}
            empty={WAIT}
          />
        );
      })}
    </div>
  );
}
