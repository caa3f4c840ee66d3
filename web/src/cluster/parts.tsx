// Panels about workers, memory and progress that several pages show.
import { useComputed, useSignal } from "@preact/signals";
import * as show from "../base/format";
import { hue, stateHue } from "../base/palette";
import { num, rowsOf, str, type Row } from "../base/rows";
import { dark } from "../base/theme";
import { query } from "../base/http";
import { known, overview, rows } from "../feed/store";
import { useTopics } from "../feed/subscription";
import { Bar, Bars, Legend, type BarRow, type Part } from "../ui/Bars";
import { useAsk } from "../ui/ask";
import { Empty, Panel, Trouble } from "../ui/Panel";
import { Table, table, type TableSpec } from "../ui/Table";

export const NO_WORKERS = "No workers";
const text = new Intl.Collator("en", { numeric: true });

/** A worker of the feed with its address. */
export interface Worker {
  readonly address: string;
  readonly name: string;
  readonly row: Row;
}

/** All workers in the order of their names. */
export function useWorkers(): Worker[] {
  useTopics(["workers"]);
  const sorted = useComputed(() =>
    [...rows("workers")]
      .map(([address, row]) => ({ address, row, name: show.shortAddress(str(row, "name") || address) }))
      .sort((a, b) => text.compare(a.name, b.name) || text.compare(a.address, b.address)),
  );
  return sorted.value;
}

export function workerHref(address: string): string {
  return query("worker", { address });
}

export function taskHref(key: string): string {
  return query("task", { key });
}

/** Says what to do where no worker is. */
export function NoWorkers() {
  if (!known("workers")) return <Empty title="Waiting for the scheduler" />;
  return (
    <Empty title="No worker is connected">
      Start some, on this machine or another:
      <pre>
        <code>rask worker {str(overview(), "address") || "ADDRESS"}</code>
      </pre>
    </Empty>
  );
}

export const MEMORY_PARTS: readonly { name: string; field: string; tone: string; what: string }[] = [
  { name: "managed", field: "managed", tone: "managed", what: "results of tasks" },
  { name: "unmanaged", field: "unmanaged", tone: "unmanaged", what: "interpreter, libraries, leaks" },
  { name: "unmanaged recent", field: "recent", tone: "recent", what: "new since half a minute: running tasks" },
  { name: "spilled", field: "spilled", tone: "spilled", what: "moved to disk" },
];

const MEMORY_LEGEND = MEMORY_PARTS.map(({ name, tone }) => ({ name, tone }));

function memoryOf(row: Row, prefix = ""): Part[] {
  return MEMORY_PARTS.map((part) => ({ name: part.name, tone: part.tone, value: num(row, prefix + part.field) }));
}

export function ClusterMemory() {
  const now = overview();
  const parts = memoryOf(now, "mem_");
  const limit = num(now, "mem_limit");
  const used = num(now, "mem_process");
  const all = parts.reduce((sum, part) => sum + part.value, 0);
  const summary = limit > 0 ? `${show.bytes(used)} of ${show.bytes(limit)} in use` : `${show.bytes(used)} in use`;
  const spec = (): TableSpec =>
    table({
      caption: "Memory of the cluster by kind",
      rows: MEMORY_PARTS.map((part, at) => ({ ...part, value: parts[at]?.value ?? 0 })),
      id: (row) => row.name,
      columns: [
        { label: "Kind", value: (row) => row.name },
        { label: "Bytes", num: true, value: (row) => row.value, show: (row) => show.bytes(row.value) },
        { label: "What it is", value: (row) => row.what, wide: true },
      ],
    });
  return (
    <Panel title="Cluster memory" more="individual-cluster-memory" summary={summary} table={spec}>
      <div class="tall">
        <Bar parts={parts} most={Math.max(limit, all, 1)} mark={limit} />
      </div>
      <Legend items={parts.map((part) => ({ name: `${part.name} ${show.bytes(part.value)}`, tone: part.tone }))} />
    </Panel>
  );
}

/** What a list of bars, one per worker, may show. */
type Measure = "memory" | "processing" | "cpu" | "occupancy" | "transfer";

interface MeasureSpec {
  readonly label: string;
  readonly title: string;
  readonly bar: (worker: Worker) => Omit<BarRow, "id" | "label" | "href">;
  readonly columns: readonly { label: string; value: (row: Row) => number; show: (value: unknown) => string }[];
  readonly summary: (workers: readonly Worker[]) => string;
}

const total = (workers: readonly Worker[], field: string): number =>
  workers.reduce((sum, worker) => sum + num(worker.row, field), 0);

export const MEASURES: Record<Measure, MeasureSpec> = {
  memory: {
    label: "Memory",
    title: "Bytes per worker",
    bar: ({ row }) => {
      const limit = num(row, "limit");
      const used = num(row, "memory");
      return {
        parts: memoryOf(row),
        text: limit > 0 ? `${show.bytes(used)} / ${show.bytes(limit)}` : show.bytes(used),
        mark: limit,
        most: limit > 0 ? limit * 1.05 : undefined,
      };
    },
    columns: [
      { label: "Process", value: (row) => num(row, "memory"), show: show.bytes },
      { label: "Limit", value: (row) => num(row, "limit"), show: show.bytes },
      ...MEMORY_PARTS.map((part) => ({
        label: part.name,
        value: (row: Row) => num(row, part.field),
        show: show.bytes,
      })),
    ],
    summary: (workers) => fullest(workers),
  },
  processing: {
    label: "Tasks",
    title: "Tasks processing",
    bar: ({ row }) => ({
      parts: [
        { name: "running", value: Math.min(num(row, "processing"), num(row, "executing")), tone: "processing" },
        { name: "assigned", value: Math.max(0, num(row, "processing") - num(row, "executing")), tone: "waiting" },
      ],
      text: show.count(num(row, "processing")),
    }),
    columns: [
      { label: "Processing", value: (row) => num(row, "processing"), show: show.count },
      { label: "Running", value: (row) => num(row, "executing"), show: show.count },
      { label: "Ready", value: (row) => num(row, "ready"), show: show.count },
    ],
    summary: (workers) =>
      `${show.many(total(workers, "processing"), "task")} at ${show.many(workers.length, "worker")}`,
  },
  cpu: {
    label: "CPU",
    title: "CPU per worker",
    bar: ({ row }) => ({
      parts: [{ name: "CPU", value: num(row, "cpu"), tone: "cpu" }],
      text: `${show.percent(num(row, "cpu"))}`,
      most: Math.max(100, num(row, "nthreads", 1) * 100),
    }),
    columns: [
      { label: "CPU", value: (row) => num(row, "cpu"), show: show.percent },
      { label: "Threads", value: (row) => num(row, "nthreads"), show: show.count },
    ],
    summary: (workers) => `${show.percent(total(workers, "cpu"))} of ${show.count(total(workers, "nthreads") * 100)} %`,
  },
  occupancy: {
    label: "Occupancy",
    title: "Occupancy per worker",
    bar: ({ row }) => ({
      parts: [{ name: "occupancy", value: num(row, "occupancy"), tone: "busy" }],
      text: show.seconds(num(row, "occupancy")),
    }),
    columns: [{ label: "Occupancy", value: (row) => num(row, "occupancy"), show: show.seconds }],
    summary: (workers) => `${show.seconds(total(workers, "occupancy"))} of known work`,
  },
  transfer: {
    label: "Transfers",
    title: "Transfers per worker",
    bar: ({ row }) => ({
      parts: [
        { name: "in", value: num(row, "transfer_in"), tone: "in" },
        { name: "out", value: num(row, "transfer_out"), tone: "out" },
      ],
      text: `${show.bytes(num(row, "transfer_in"))} in · ${show.bytes(num(row, "transfer_out"))} out`,
    }),
    columns: [
      { label: "Coming in", value: (row) => num(row, "transfer_in"), show: show.bytes },
      { label: "Going out", value: (row) => num(row, "transfer_out"), show: show.bytes },
      { label: "Network read", value: (row) => num(row, "net_read"), show: show.rate },
      { label: "Network written", value: (row) => num(row, "net_write"), show: show.rate },
    ],
    summary: (workers) => `${show.bytes(total(workers, "transfer_in"))} on the way`,
  },
};

function fullest(workers: readonly Worker[]): string {
  let best: Worker | null = null;
  let share = 0;
  for (const worker of workers) {
    const limit = num(worker.row, "limit");
    const now = limit > 0 ? num(worker.row, "memory") / limit : 0;
    if (now > share) [best, share] = [worker, now];
  }
  return best ? `fullest: ${best.name} at ${show.percent(share * 100)}` : "";
}

export function measureTable(measure: Measure, workers: readonly Worker[]): TableSpec<Worker> {
  const spec = MEASURES[measure];
  return {
    caption: spec.title,
    rows: workers,
    id: (worker) => worker.address,
    columns: [
      {
        label: "Worker",
        value: (worker) => worker.name,
        show: (worker) => (
          <a href={workerHref(worker.address)} data-go>
            {worker.name}
          </a>
        ),
      },
      ...spec.columns.map((column) => ({
        label: column.label,
        num: true,
        value: (worker: Worker) => column.value(worker.row),
        show: (worker: Worker) => column.show(column.value(worker.row)),
      })),
    ],
  };
}

/** One measure of all workers as bars. */
export function WorkerBars({ measure, more }: { measure: Measure; more?: string }) {
  const workers = useWorkers();
  const spec = MEASURES[measure];
  return (
    <Panel
      title={spec.title}
      summary={spec.summary(workers)}
      table={() => measureTable(measure, workers)}
      {...(more ? { more } : {})}
    >
      <MeasureBars measure={measure} workers={workers} />
      {measure === "memory" && workers.length > 0 && <Legend items={MEMORY_LEGEND} />}
    </Panel>
  );
}

function MeasureBars({ measure, workers }: { measure: Measure; workers: readonly Worker[] }) {
  if (workers.length === 0) return <NoWorkers />;
  const spec = MEASURES[measure];
  const bars = workers.map((worker) => ({
    id: worker.address,
    label: worker.name,
    href: workerHref(worker.address),
    dim: str(worker.row, "status") !== "running",
    ...spec.bar(worker),
  }));
  return <Bars rows={bars} empty={NO_WORKERS} />;
}

/** Several measures behind tabs, in the space of one. */
export function WorkerTabs({ measures }: { measures: readonly Measure[] }) {
  const workers = useWorkers();
  const chosen = useSignal<Measure>(measures[0] ?? "cpu");
  const spec = MEASURES[chosen.value];
  const tabs = (
    <div class="tabs" role="tablist" aria-label="Measure">
      {measures.map((measure) => (
        <button
          key={measure}
          type="button"
          role="tab"
          aria-selected={chosen.value === measure}
          onClick={() => (chosen.value = measure)}
        >
          {MEASURES[measure].label}
        </button>
      ))}
    </div>
  );
  return (
    <Panel
      title={spec.title}
      summary={spec.summary(workers)}
      table={() => measureTable(chosen.value, workers)}
      actions={tabs}
    >
      <MeasureBars measure={chosen.value} workers={workers} />
    </Panel>
  );
}

const STATES = ["memory", "released", "processing", "waiting", "queued", "no_worker", "erred"] as const;

function tone(state: string): string {
  return state.replace("_", "-");
}

/** Progress of one set of rows (prefixes or groups), newest work first. */
export function Progress({ topic, title, more }: { topic: "prefixes" | "groups"; title: string; more?: string }) {
  useTopics([topic]);
  const all = [...rows(topic)]
    .map(([name, row]) => ({ name, row }))
    .sort((a, b) => rank(b.row) - rank(a.row) || text.compare(a.name, b.name));
  const now = overview();
  const doing = num(now, "processing") + num(now, "waiting") + num(now, "queued") + num(now, "no_worker");
  const held = num(now, "memory") + num(now, "released");
  const summary = `${show.count(held)} done, ${show.count(doing)} to do, ${show.count(num(now, "erred"))} failed`;
  const bars = all
    .filter(({ row }) => STATES.some((state) => num(row, state) > 0))
    .map(({ name, row }) => progressBar(name, row));
  const gone = all.length - bars.length;
  return (
    <Panel title={title} summary={summary} table={() => progressTable(title, all)} {...(more ? { more } : {})}>
      {bars.length === 0 ? <NoTasks topic={topic} ended={gone > 0} /> : <Bars rows={bars} empty="" />}
      {gone > 0 && bars.length > 0 && (
        <p class="more-line">{show.many(gone, "more prefix", "more prefixes")} finished, with nothing held any more.</p>
      )}
      <Legend items={STATES.map((state) => ({ name: state.replace("_", " "), tone: tone(state) }))} />
    </Panel>
  );
}

function rank(row: Row): number {
  return (
    (num(row, "processing") + num(row, "waiting") + num(row, "queued")) * 1e6 + num(row, "memory") + num(row, "erred")
  );
}

function progressBar(name: string, row: Row): BarRow {
  const sum = STATES.reduce((all, state) => all + num(row, state), 0);
  const finished = num(row, "memory") + num(row, "released");
  const failed = num(row, "erred");
  return {
    id: name,
    label: name,
    href: query("groups", { prefix: str(row, "prefix") || name }),
    most: Math.max(1, sum),
    parts: STATES.map((state) => ({ name: state, value: num(row, state), tone: tone(state) })),
    text: `${show.count(finished)} / ${show.count(sum)}${failed > 0 ? ` · ${show.count(failed)} failed` : ""}`,
  };
}

export function progressTable(
  caption: string,
  all: readonly { name: string; row: Row }[],
): TableSpec<{ name: string; row: Row }> {
  return {
    caption,
    rows: all,
    id: (item) => item.name,
    columns: [
      {
        label: "Name",
        wide: true,
        value: (item) => item.name,
        show: (item) => (
          <>
            <span
              class="tone"
              style={{ backgroundColor: hue(num(item.row, "color"), dark.value) }}
              aria-hidden="true"
            />
            {item.name}
          </>
        ),
      },
      ...STATES.map((state) => ({
        label: state.replace("_", " "),
        num: true,
        value: (item: { row: Row }) => num(item.row, state),
        show: (item: { row: Row }) => show.count(num(item.row, state)),
      })),
      {
        label: "Mean time",
        num: true,
        value: (item) => num(item.row, "duration"),
        show: (item) => show.seconds(item.row.duration),
      },
    ],
  };
}

function NoTasks({ topic, ended }: { topic: string; ended: boolean }) {
  if (!known(topic)) return <Empty title="Waiting for the scheduler" />;
  if (ended) return <Empty title="All work is done, and no result is held" />;
  return (
    <Empty title="No tasks yet">
      Connect a client and compute something:
      <pre>
        <code>{`from distributed import Client\nclient = Client("${str(overview(), "address") || "ADDRESS"}")\nclient.gather(client.map(lambda x: x * x, range(1000)))`}</code>
      </pre>
    </Empty>
  );
}

const LIST_STEP = 100;

/** Tasks by state, prefix and worker, as the scheduler lists them; more on demand. */
export function TaskList({ state, prefix, worker }: { state?: string; prefix?: string; worker?: string }) {
  const limit = useSignal(LIST_STEP);
  const asked = useAsk(query("api/tasks", { state, prefix, worker, limit: limit.value }), 3_000);
  const { data, error, busy } = asked.answer.value;
  const tasks = rowsOf(data, "tasks");
  const total = num(data, "total", tasks.length);
  const what = [state && `in state ${state}`, prefix && `of ${prefix}`, worker && `on ${show.shortAddress(worker)}`]
    .filter(Boolean)
    .join(" ");
  return (
    <Panel
      title={`Tasks ${what}`}
      summary={data ? show.many(total, "task") : busy ? "asking the scheduler" : ""}
      class="flush"
    >
      {error && <Trouble error={error} />}
      <Table
        caption={`Tasks ${what}`}
        rows={tasks}
        id={(row) => str(row, "key")}
        empty={<Empty title={busy ? "Asking the scheduler" : "There are none now"} />}
        columns={[
          {
            label: "Task",
            wide: true,
            value: (row) => str(row, "key"),
            show: (row) => (
              <a href={taskHref(str(row, "key"))} data-go>
                {str(row, "key")}
              </a>
            ),
          },
          { label: "State", value: (row) => str(row, "state"), show: (row) => <State state={str(row, "state")} /> },
          { label: "Group", value: (row) => str(row, "group") },
          { label: "Bytes", num: true, value: (row) => num(row, "nbytes"), show: (row) => show.bytes(row.nbytes) },
          {
            label: "Worker",
            value: (row) => str(row, "worker"),
            show: (row) =>
              str(row, "worker") ? (
                <a href={workerHref(str(row, "worker"))} data-go>
                  {show.shortAddress(str(row, "worker"))}
                </a>
              ) : (
                "–"
              ),
          },
        ]}
      />
      {total > tasks.length && tasks.length > 0 && (
        <p class="more">
          {tasks.length} of {total}.{" "}
          <button
            type="button"
            class="quiet"
            onClick={() => (limit.value = Math.min(1_000, limit.value * 4))}
            disabled={limit.value >= 1_000}
          >
            {limit.value >= 1_000 ? "Narrow the list to see others" : "Show more"}
          </button>
        </p>
      )}
    </Panel>
  );
}

/** A task's state as a word with its colour. */
export function State({ state }: { state: string }) {
  return (
    <span class="pill">
      <span class="tone" style={{ backgroundColor: stateHue(state, dark.value) }} aria-hidden="true" />
      {state || "unknown"}
    </span>
  );
}
