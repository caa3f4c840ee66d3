// Pages that are one list each: progress, groups, memory and time by key, bandwidth, stealing, events and the like.
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import * as show from "../base/format";
import { hue } from "../base/palette";
import { list, maybe, num, obj, rowsOf, str, type Row } from "../base/rows";
import { dark } from "../base/theme";
import { place, setQuery } from "../base/url";
import { known, overview, peek, rows } from "../feed/store";
import { useTopics } from "../feed/wants";
import { useAsk } from "../ui/ask";
import { Bars, Legend, type BarRow } from "../ui/Bars";
import { Empty, Panel, Trouble } from "../ui/Panel";
import { Table, type Column, type TableSpec } from "../ui/Table";
import { Progress, progressTable, taskHref, TaskList, workerHref } from "./parts";
import { Choice } from "./tasks";

/** A row with its id. */
export interface Item {
  readonly id: string;
  readonly row: Row;
}

/** The rows of a topic as a list. */
export function useItems(topic: string): Item[] {
  useTopics([topic]);
  return [...rows(topic)].map(([id, row]) => ({ id, row }));
}

/** "Waiting" before the first word of the scheduler, then what emptiness means. */
export function Nothing({ topic, title, children }: { topic: string; title: string; children?: ComponentChildren }) {
  return known(topic) ? <Empty title={title}>{children}</Empty> : <Empty title="Waiting for the scheduler" />;
}

type Show = (value: unknown) => string;

/** A column of numbers of a row's field. */
export function figure(label: string, field: string, as: Show): Column<Item> {
  return { label, num: true, value: (item) => maybe(item.row, field), show: (item) => as(item.row[field]) };
}

export function words(label: string, field: string, wide = false): Column<Item> {
  return { label, wide, value: (item) => str(item.row, field), show: (item) => show.text(item.row[field]) };
}

function named(label = "Name", short: (name: string) => string = (name) => name): Column<Item> {
  return {
    label,
    wide: true,
    value: (item) => item.id,
    show: (item) => (
      <>
        <span class="tone" style={{ backgroundColor: hue(num(item.row, "color"), dark.value) }} aria-hidden="true" />
        <span title={item.id}>{short(item.id)}</span>
      </>
    ),
  };
}

function WorkerLink({ address }: { address: string }) {
  if (address === "") return <>–</>;
  const name = str(peek("workers").get(address), "name");
  return (
    <a href={workerHref(address)} data-go>
      {name || show.shortAddress(address)}
    </a>
  );
}

function TaskLink({ name }: { name: string }) {
  return name === "" ? (
    <>–</>
  ) : (
    <a href={taskHref(name)} data-go>
      {show.middle(name, 60)}
    </a>
  );
}

export function ProgressPage() {
  const all = useItems("prefixes").map(({ id, row }) => ({ name: id, row }));
  return (
    <>
      <div class="tall-bars">
        <Progress topic="prefixes" title="Progress by prefix" />
      </div>
      {all.length > 0 && (
        <Panel title="Tasks by prefix and state" summary={show.many(all.length, "prefix", "prefixes")} class="flush">
          <Table {...progressTable("Tasks by prefix and state", all)} />
        </Panel>
      )}
    </>
  );
}

const GROUP_STATES = ["released", "waiting", "queued", "no_worker", "processing", "memory", "erred", "forgotten"];

export function Groups() {
  const prefix = place.value.query.get("prefix") ?? "";
  const all = useItems("groups");
  const shown = prefix === "" ? all : all.filter((item) => str(item.row, "prefix") === prefix);
  const prefixes = [...new Set(all.map((item) => str(item.row, "prefix")))].sort();
  const columns: Column<Item>[] = [
    named("Group", show.withoutHash),
    figure("Tasks", "total", show.count),
    ...GROUP_STATES.map((state) => figure(state.replace("_", " "), state, show.count)),
    {
      label: "Depends on",
      wide: true,
      value: (item) => list(item.row, "deps").length,
      show: (item) => show.names(list(item.row, "deps")) || "–",
    },
  ];
  return (
    <>
      <Panel
        title="Task groups"
        summary={show.many(shown.length, "group")}
        class="flush"
        actions={
          <Choice
            label="Prefix"
            value={prefix}
            options={prefixes.map((name) => [name, name])}
            onChoose={(next) => setQuery({ prefix: next })}
          />
        }
      >
        <Table
          columns={columns}
          rows={shown}
          id={(item) => item.id}
          caption="Task groups"
          empty={
            <Nothing topic="groups" title="No groups">
              A group is made of the tasks of one call, such as one <code>map</code>.
            </Nothing>
          }
        />
      </Panel>
      {prefix !== "" && <TaskList prefix={prefix} />}
    </>
  );
}

export function ByKey() {
  const all = useItems("memory_by_key").sort((a, b) => num(b.row, "nbytes") - num(a.row, "nbytes"));
  const sum = all.reduce((bytes, item) => bytes + num(item.row, "nbytes"), 0);
  const spec: TableSpec<Item> = {
    caption: "Memory by key prefix",
    rows: all,
    id: (item) => item.id,
    sort: -2,
    columns: [named("Prefix"), figure("Bytes", "nbytes", show.bytes), figure("Keys", "keys", show.count)],
  };
  const bars = all.map((item) =>
    colourBar(item, "nbytes", `${show.bytes(item.row.nbytes)} · ${show.many(num(item.row, "keys"), "key")}`),
  );
  return (
    <Panel title="Memory by key" summary={`${show.bytes(sum)} of results held`} table={() => spec}>
      {bars.length > 0 ? (
        <Bars rows={bars} empty="" />
      ) : (
        <Nothing topic="memory_by_key" title="No results are held">
          Results stay in memory while a client holds a future or a task needs them.
        </Nothing>
      )}
    </Panel>
  );
}

function colourBar(item: Item, field: string, text: string): BarRow {
  return {
    id: item.id,
    label: item.id,
    text,
    parts: [{ name: item.id, value: num(item.row, field), tone: hue(num(item.row, "color"), dark.value) }],
  };
}

const SPENT: readonly { field: string; tone: string; name: string }[] = [
  { field: "compute", tone: "cpu", name: "compute" },
  { field: "transfer", tone: "in", name: "transfer" },
  { field: "disk_read", tone: "no-worker", name: "disk read" },
  { field: "disk_write", tone: "queued", name: "disk write" },
  { field: "deserialize", tone: "waiting", name: "deserialize" },
  { field: "other", tone: "released", name: "other" },
];

function spent(item: Item): number {
  return SPENT.reduce((all, part) => all + num(item.row, part.field), 0);
}

export function ComputeByKey() {
  const all = useItems("compute_by_key").sort((a, b) => spent(b) - spent(a));
  const sum = all.reduce((time, item) => time + spent(item), 0);
  const spec: TableSpec<Item> = {
    caption: "Time by key prefix",
    rows: all,
    id: (item) => item.id,
    sort: -2,
    columns: [
      named("Prefix"),
      { label: "All", num: true, value: spent, show: (item) => show.seconds(spent(item)) },
      ...SPENT.map((part) => figure(part.name, part.field, show.seconds)),
      figure("Runs", "runs", show.count),
      figure("Mean", "mean", show.seconds),
    ],
  };
  const bars = all.map((item) => ({
    id: item.id,
    label: item.id,
    text: `${show.seconds(spent(item))}${num(item.row, "runs") > 0 ? ` · ${show.many(num(item.row, "runs"), "run")}` : ""}`,
    parts: SPENT.map((part) => ({ name: part.name, tone: part.tone, value: num(item.row, part.field) })),
  }));
  return (
    <Panel title="Compute time by key" summary={`${show.seconds(sum)} spent by all threads`} table={() => spec}>
      {bars.length > 0 ? <Bars rows={bars} empty="" /> : <Nothing topic="compute_by_key" title="Nothing has run yet" />}
      <Legend items={SPENT.map(({ name, tone }) => ({ name, tone }))} />
    </Panel>
  );
}

/** Time by what the threads did, over all prefixes. */
export function TimeByAction() {
  const all = useItems("time_by_action").sort((a, b) => num(b.row, "secs") - num(a.row, "secs"));
  const sum = all.reduce((time, item) => time + num(item.row, "secs"), 0);
  const spec: TableSpec<Item> = {
    caption: "Time by action",
    rows: all,
    id: (item) => item.id,
    columns: [{ label: "Action", value: (item) => item.id }, figure("Time", "secs", show.seconds)],
  };
  const bars = all.map((item) => ({
    id: item.id,
    label: item.id,
    text: `${show.seconds(num(item.row, "secs"))} · ${show.percent(sum > 0 ? (num(item.row, "secs") / sum) * 100 : 0)}`,
    parts: [
      {
        name: item.id,
        value: num(item.row, "secs"),
        tone: SPENT.find((part) => part.field === item.id.replace("-", "_"))?.tone ?? "cpu",
      },
    ],
  }));
  return (
    <Panel title="Time by action" summary={`${show.seconds(sum)} in all`} table={() => spec}>
      {bars.length > 0 ? <Bars rows={bars} empty="" /> : <Nothing topic="time_by_action" title="Nothing has run yet" />}
    </Panel>
  );
}

export function BandwidthTypes() {
  const all = useItems("bandwidth")
    .filter((item) => str(item.row, "kind") === "type")
    .sort((a, b) => num(b.row, "bandwidth") - num(a.row, "bandwidth"));
  const spec: TableSpec<Item> = {
    caption: "Bandwidth by type",
    rows: all,
    id: (item) => item.id,
    columns: [words("Type", "name"), figure("Bandwidth", "bandwidth", show.rate), figure("Transfers", "n", show.count)],
  };
  const bars = all.map((item) => ({
    id: item.id,
    label: str(item.row, "name"),
    text: show.rate(item.row.bandwidth),
    parts: [{ name: "bandwidth", value: num(item.row, "bandwidth"), tone: "in" }],
  }));
  return (
    <Panel
      title="Bandwidth by type"
      summary={`assumed between any two workers: ${show.rate(overview().bandwidth)}`}
      table={() => spec}
    >
      {bars.length > 0 ? <Bars rows={bars} empty="" /> : <NoTransfers />}
    </Panel>
  );
}

export function BandwidthPairs() {
  useTopics(["workers"]);
  const all = useItems("bandwidth").filter((item) => str(item.row, "kind") === "pair");
  const columns: Column<Item>[] = [
    {
      label: "From",
      value: (item) => str(item.row, "from"),
      show: (item) => <WorkerLink address={str(item.row, "from")} />,
    },
    { label: "To", value: (item) => str(item.row, "to"), show: (item) => <WorkerLink address={str(item.row, "to")} /> },
    figure("Bandwidth", "bandwidth", show.rate),
    figure("Transfers", "n", show.count),
  ];
  return (
    <Panel title="Bandwidth between workers" summary={show.many(all.length, "pair")}>
      <Table
        columns={columns}
        rows={all}
        id={(item) => item.id}
        caption="Bandwidth between workers"
        sort={-3}
        empty={<NoTransfers />}
      />
    </Panel>
  );
}

function NoTransfers() {
  return (
    <Nothing topic="bandwidth" title="No transfers measured yet">
      Workers measure when they fetch results from one another.
    </Nothing>
  );
}

export function Bandwidth() {
  return (
    <div class="grid">
      <div class="w5">
        <BandwidthTypes />
      </div>
      <div class="w7">
        <BandwidthPairs />
      </div>
    </div>
  );
}

function fineValue(row: Row): string {
  const unit = str(row, "unit");
  return unit === "seconds"
    ? show.seconds(row.value)
    : unit === "bytes"
      ? show.bytes(row.value)
      : show.number(row.value);
}

export function Fine() {
  const all = useItems("fine");
  const unit = useSignal("seconds");
  const context = useSignal("");
  const contexts = [...new Set(all.map((item) => str(item.row, "context")))].sort();
  const units = [...new Set(all.map((item) => str(item.row, "unit")))].sort();
  const shown = all.filter(
    (item) =>
      str(item.row, "unit") === unit.value && (context.value === "" || str(item.row, "context") === context.value),
  );
  const byActivity = new Map<string, number>();
  for (const { row } of shown)
    byActivity.set(str(row, "activity"), (byActivity.get(str(row, "activity")) ?? 0) + num(row, "value"));
  const bars = [...byActivity]
    .sort((a, b) => b[1] - a[1])
    .map(([name, value], at) => ({
      id: name,
      label: name,
      text: fineValue({ unit: unit.value, value }),
      parts: [{ name, value, tone: hue(at, dark.value) }],
    }));
  const columns: Column<Item>[] = [
    words("Context", "context"),
    words("Prefix", "prefix", true),
    words("Activity", "activity"),
    { label: "Value", num: true, value: (item) => num(item.row, "value"), show: (item) => fineValue(item.row) },
  ];
  return (
    <>
      <Panel
        title="Where the workers' time went"
        summary={show.many(byActivity.size, "activity", "activities")}
        actions={
          <>
            <Choice
              label="Context"
              value={context.value}
              options={contexts.map((name) => [name, name])}
              onChoose={(next) => (context.value = next)}
            />
            <div class="tabs" role="tablist" aria-label="Unit">
              {(units.length > 0 ? units : ["seconds"]).map((name) => (
                <button
                  key={name}
                  type="button"
                  role="tab"
                  aria-selected={unit.value === name}
                  onClick={() => (unit.value = name)}
                >
                  {name}
                </button>
              ))}
            </div>
          </>
        }
      >
        {bars.length > 0 ? (
          <Bars rows={bars} empty="" />
        ) : (
          <Nothing topic="fine" title="No measurements yet">
            Workers send fine metrics with their heartbeats once tasks run.
          </Nothing>
        )}
      </Panel>
      {shown.length > 0 && (
        <Panel title="All measurements" summary={show.many(shown.length, "row")} class="flush">
          <Table columns={columns} rows={shown} id={(item) => item.id} caption="Fine performance metrics" sort={-4} />
        </Panel>
      )}
    </>
  );
}

export function Stealing() {
  useTopics(["workers"]);
  const all = useItems("stealing");
  const total = all.find((item) => item.id === "total")?.row;
  const moves = all.filter((item) => item.id !== "total");
  const columns: Column<Item>[] = [
    { label: "Time", num: true, value: (item) => num(item.row, "t"), show: (item) => show.clock(item.row.t, true) },
    {
      label: "Task",
      wide: true,
      value: (item) => str(item.row, "key"),
      show: (item) => <TaskLink name={str(item.row, "key")} />,
    },
    {
      label: "From",
      value: (item) => str(item.row, "from"),
      show: (item) => <WorkerLink address={str(item.row, "from")} />,
    },
    { label: "To", value: (item) => str(item.row, "to"), show: (item) => <WorkerLink address={str(item.row, "to")} /> },
    figure("Cost", "cost", show.seconds),
    words("What", "kind"),
  ];
  return (
    <Panel
      title="Work stealing"
      summary={`${show.many(num(total, "count"), "move")} so far, ${show.seconds(num(total, "cost"))} of transfers expected for them`}
      class="flush"
    >
      <Table
        columns={columns}
        rows={moves}
        id={(item) => item.id}
        caption="Tasks moved from busy to idle workers"
        sort={-1}
        empty={
          <Nothing topic="stealing" title="No task was moved">
            The scheduler moves waiting tasks from busy to idle workers when that is worth the transfer.
          </Nothing>
        }
      />
    </Panel>
  );
}

export function Events() {
  const topic = place.value.query.get("topic") ?? "";
  useTopics(["events"], { events: { topic: topic || "all" } });
  const all = [...rows("events")].map(([id, row]) => ({ id, row }));
  const asked = useAsk("api/topics", 5_000);
  const topics = list(asked.answer.value.data, "topics")
    .map(String)
    .filter((name) => name !== "all");
  const columns: Column<Item>[] = [
    { label: "Time", num: true, value: (item) => num(item.row, "t"), show: (item) => show.clock(item.row.t, true) },
    words("Topic", "topic"),
    {
      label: "Event",
      wide: true,
      value: (item) => str(item.row, "text"),
      show: (item) => str(item.row, "text") || show.text(item.row.data),
    },
  ];
  return (
    <Panel
      title="Events"
      summary={`the newest ${show.count(all.length)}`}
      class="flush"
      actions={
        <Choice
          label="Topic"
          value={topic}
          options={topics.map((name) => [name, name])}
          onChoose={(next) => setQuery({ topic: next })}
        />
      }
    >
      <Table
        columns={columns}
        rows={all}
        id={(item) => item.id}
        caption="Events"
        sort={-1}
        empty={
          <Nothing topic="events" title="No events">
            The scheduler tells here of workers and clients; what <code>log_event</code> wrote is in its own topic.
          </Nothing>
        }
      />
    </Panel>
  );
}

export function Shuffle() {
  useTopics(["workers"]);
  const all = useItems("shuffle");
  const worker = (item: Item): string => item.id.split(" ").slice(1).join(" ");
  const name = (item: Item): string => item.id.split(" ")[0] ?? item.id;
  const columns: Column<Item>[] = [
    { label: "Shuffle", value: name, show: (item) => <span title={name(item)}>{show.middle(name(item), 18)}</span> },
    {
      label: "Worker",
      value: worker,
      show: (item) => (worker(item) === "" ? <strong>all</strong> : <WorkerLink address={worker(item)} />),
    },
    figure("Run", "run", show.count),
    figure("Sent", "comm_written", show.bytes),
    figure("Received", "comm_read", show.bytes),
    figure("Written to disk", "disk_written", show.bytes),
    figure("Read from disk", "disk_read", show.bytes),
    figure("Waiting to be sent", "comm_memory", show.bytes),
    figure("Waiting for disk", "disk_memory", show.bytes),
  ];
  return (
    <Panel title="Shuffles" summary={show.many(new Set(all.map(name)).size, "shuffle")} class="flush">
      <Table
        columns={columns}
        rows={all}
        id={(item) => item.id}
        caption="Shuffles"
        empty={
          <Nothing topic="shuffle" title="No shuffle runs">
            Joins, merges and rechunks of whole tables show here while they run.
          </Nothing>
        }
      />
    </Panel>
  );
}

export function Coordination() {
  const all = useItems("coordination");
  const columns: Column<Item>[] = [
    words("Kind", "kind"),
    words("Name", "name", true),
    { label: "State", wide: true, value: (item) => coordinationState(item.row) },
    { label: "Held by", value: (item) => str(item.row, "holder"), show: (item) => holders(item.row.holder) },
    figure("Waiting", "waiting", show.count),
  ];
  return (
    <Panel
      title="Locks, semaphores, events, queues, variables, datasets"
      summary={show.many(all.length, "one", "of them")}
      class="flush"
    >
      <Table
        columns={columns}
        rows={all}
        id={(item) => item.id}
        caption="Coordination primitives"
        sort={1}
        empty={
          <Nothing topic="coordination" title="None is in use">
            Made by <code>Lock</code>, <code>Semaphore</code>, <code>Event</code>, <code>Queue</code>,{" "}
            <code>Variable</code> and <code>publish_dataset</code>.
          </Nothing>
        }
      />
    </Panel>
  );
}

/** Locks and semaphores have a list of holders. */
function holders(held: unknown): string {
  return Array.isArray(held) ? held.map(String).join(", ") || "–" : show.text(held);
}

function coordinationState(row: Row): string {
  if (str(row, "text")) return str(row, "text");
  const parts: string[] = [];
  if (maybe(row, "leases") !== null)
    parts.push(`${show.count(num(row, "leases"))} of ${show.text(row.max_leases)} leases`);
  if (maybe(row, "size") !== null)
    parts.push(
      `${show.count(num(row, "size"))}${maybe(row, "maxsize") ? ` of ${show.count(num(row, "maxsize"))}` : ""} inside`,
    );
  if (typeof row.is_set === "boolean") parts.push(row.is_set ? "set" : "not set");
  if (row.value !== null && row.value !== undefined) parts.push(`= ${show.middle(show.text(row.value), 80)}`);
  return parts.join(", ") || "–";
}

export function Clients() {
  // Stands for results that nobody waits for; no client of its own.
  const all = useItems("clients").filter((item) => item.id !== "fire-and-forget" || num(item.row, "wants") > 0);
  const columns: Column<Item>[] = [
    { label: "Client", value: (item) => item.id, show: (item) => <span class="mono">{item.id}</span> },
    figure("Keys wanted", "wants", show.count),
    {
      label: "Last seen",
      num: true,
      value: (item) => num(item.row, "last_seen"),
      show: (item) => show.clock(item.row.last_seen),
    },
    words("Python", "python"),
    words("dask", "dask"),
    words("distributed", "distributed"),
  ];
  return (
    <Panel title="Clients" summary={show.many(all.length, "client")} class="flush">
      <Table
        columns={columns}
        rows={all}
        id={(item) => item.id}
        caption="Clients"
        sort={1}
        empty={
          <Nothing topic="clients" title="No client is connected">
            In Python:{" "}
            <pre>
              <code>{`from distributed import Client\nclient = Client("${str(overview(), "address") || "ADDRESS"}")`}</code>
            </pre>
          </Nothing>
        }
      />
    </Panel>
  );
}

export function Computations() {
  const all = useItems("computations");
  const took = (item: Item): number | null =>
    num(item.row, "stop") > 0 ? num(item.row, "stop") - num(item.row, "start") : null;
  const columns: Column<Item>[] = [
    { label: "Start", num: true, value: (item) => num(item.row, "start"), show: (item) => show.moment(item.row.start) },
    {
      label: "Took",
      num: true,
      value: took,
      show: (item) => (took(item) === null ? "runs" : show.seconds(took(item))),
    },
    figure("Tasks", "tasks", show.count),
    figure("Done", "done", show.count),
    figure("Failed", "erred", show.count),
    {
      label: "Groups",
      wide: true,
      value: (item) => list(item.row, "groups").length,
      show: (item) => show.names(list(item.row, "groups")) || "–",
    },
    {
      label: "Code",
      wide: true,
      value: (item) => str(item.row, "code"),
      show: (item) => (str(item.row, "code") ? <pre class="mono">{str(item.row, "code")}</pre> : "–"),
    },
  ];
  return (
    <Panel title="Computations" summary={show.many(all.length, "computation")} class="flush">
      <Table
        columns={columns}
        rows={all}
        id={(item) => item.id}
        caption="Computations"
        sort={-1}
        empty={
          <Nothing topic="computations" title="Nothing was computed yet">
            Each call of <code>compute</code> or <code>map</code> of a client is one.
          </Nothing>
        }
      />
    </Panel>
  );
}

export function Logs() {
  const all = useItems("logs");
  const columns: Column<Item>[] = [
    { label: "Time", num: true, value: (item) => num(item.row, "t"), show: (item) => show.clock(item.row.t, true) },
    {
      label: "Level",
      value: (item) => str(item.row, "level"),
      show: (item) => (
        <span
          class={
            /err|crit/i.test(str(item.row, "level")) ? "bad" : /warn/i.test(str(item.row, "level")) ? "warn" : "muted"
          }
        >
          {str(item.row, "level")}
        </span>
      ),
    },
    {
      label: "Text",
      wide: true,
      value: (item) => str(item.row, "text"),
      show: (item) => <span class="mono">{str(item.row, "text")}</span>,
    },
  ];
  return (
    <Panel title="Warnings and errors of the scheduler" summary={show.many(all.length, "line")} class="flush">
      <Table
        columns={columns}
        rows={all}
        id={(item) => item.id}
        caption="Log of the scheduler"
        sort={-1}
        empty={
          <Nothing topic="logs" title="Nothing went wrong">
            Warnings and errors of the scheduler show here. Its whole log is what <code>rask logs</code> and the
            appliance's page Logs show.
          </Nothing>
        }
      />
    </Panel>
  );
}

/** Runs only when asked for: the benchmark keeps the workers busy for seconds. */
export function Hardware() {
  const wanted = useSignal(false);
  const asked = useAsk(wanted.value ? "api/hardware" : null);
  const { data, error, busy } = asked.answer.value;
  const rowsShown = data ? Object.entries(data).flatMap(([kind, value]) => hardwareRows(kind, value)) : [];
  return (
    <Panel
      title="Hardware"
      summary={
        busy && wanted.value ? "measuring: some seconds" : "Memory, disk and network as the workers measure them"
      }
      actions={
        <button
          type="button"
          disabled={busy && wanted.value}
          onClick={() => (wanted.value ? asked.again() : (wanted.value = true))}
        >
          {data ? "Measure again" : "Measure"}
        </button>
      }
    >
      {error && <Trouble error={error} />}
      {rowsShown.length > 0 ? (
        <Table
          caption="Hardware"
          rows={rowsShown}
          id={(row) => `${row.kind} ${row.size}`}
          columns={[
            { label: "What", value: (row) => row.kind },
            { label: "Block size", value: (row) => row.size },
            { label: "Bandwidth", num: true, value: (row) => row.value, show: (row) => show.rate(row.value) },
          ]}
        />
      ) : (
        !error && (
          <Empty title={busy && wanted.value ? "Measuring" : "Not measured yet"}>
            Measuring copies memory and writes files on every worker for a few seconds, so it waits for your click.
          </Empty>
        )
      )}
    </Panel>
  );
}

function hardwareRows(kind: string, value: unknown): { kind: string; size: string; value: number }[] {
  if (value === null || typeof value !== "object") return [];
  const row = { v: value } as Row;
  const from = Array.isArray(value)
    ? rowsOf(row, "v").map((one) => [str(one, "size"), num(one, "bandwidth")] as const)
    : Object.entries(obj(row, "v")).map(
        ([size, one]) => [size, typeof one === "number" ? one : Array.isArray(one) ? Number(one[0]) || 0 : 0] as const,
      );
  return from.map(([size, bandwidth]) => ({ kind: kind.replace(/_/g, " "), size, value: bandwidth }));
}
