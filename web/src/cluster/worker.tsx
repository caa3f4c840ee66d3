// One worker: figures, what it does, what it holds, its log, its call stacks.
import { useSignal } from "@preact/signals";
import * as show from "../base/format";
import { act, query, Refusal } from "../base/http";
import { asRow, list, num, obj, rowsOf, str, type Row } from "../base/rows";
import { place, setQuery } from "../base/url";
import { where } from "../base/where";
import { rows } from "../feed/store";
import { useTopics } from "../feed/subscription";
import { useAsk } from "../ui/ask";
import { Bar, Legend } from "../ui/Bars";
import { Empty, Figure, Panel, Trouble } from "../ui/Panel";
import { Table } from "../ui/Table";
import { MEMORY_PARTS, State, taskHref } from "./parts";
import { WorkerSeries } from "./system";
import { WorkerStatus } from "./workers";

const TABS = [
  ["tasks", "Tasks"],
  ["stacks", "Call stacks"],
  ["logs", "Log"],
  ["system", "System"],
] as const;

export function WorkerPage() {
  useTopics(["workers"]);
  const address = place.value.query.get("address") ?? "";
  const tab = place.value.query.get("tab") ?? "tasks";
  const row = rows("workers").get(address);
  const asked = useAsk(address === "" ? null : query("api/worker", { address }), 3_000);
  const { data, error } = asked.answer.value;
  if (address === "")
    return (
      <Empty title="No worker is named">
        <a href="workers" data-go>
          To the list of workers
        </a>
      </Empty>
    );
  if (error?.status === 404 && !row) {
    return (
      <Empty title={`No worker ${address} is connected`}>
        It left or never was.{" "}
        <a href="workers" data-go>
          To the list of workers
        </a>
      </Empty>
    );
  }
  return (
    <>
      <Head address={address} row={row ?? {}} />
      <div class="tabs page-tabs" role="tablist" aria-label="About this worker">
        {TABS.map(([name, title]) => (
          <button
            key={name}
            type="button"
            role="tab"
            aria-selected={tab === name}
            onClick={() => setQuery({ tab: name === "tasks" ? null : name })}
          >
            {title}
          </button>
        ))}
      </div>
      {error && error.status !== 404 && <Trouble error={error} />}
      {tab === "tasks" && <Holds data={data} />}
      {tab === "stacks" && <Stacks address={address} />}
      {tab === "logs" && <WorkerLog address={address} />}
      {tab === "system" && (
        <WorkerSeries fields={["cpu", "memory", "net_read", "net_write", "disk_read", "disk_write"]} only={address} />
      )}
    </>
  );
}

function Head({ address, row }: { address: string; row: Row }) {
  const n = (name: string): number => num(row, name);
  const parts = MEMORY_PARTS.map((part) => ({
    name: `${part.name} ${show.bytes(n(part.field))}`,
    tone: part.tone,
    value: n(part.field),
  }));
  const limit = n("limit");
  const facts: readonly (readonly [string, string])[] = [
    ["Host", str(row, "host")],
    ["Engine", str(row, "engine")],
    ["Local folder", str(row, "local_directory")],
    [
      "Resources",
      Object.entries(obj(row, "resources"))
        .map(([name, value]) => `${name} ${show.text(value)}`)
        .join(", "),
    ],
    ["Process", str(row, "pid")],
    ["Nanny", str(row, "nanny")],
    ["Last seen", show.clock(row.last_seen)],
  ];
  return (
    <>
      <div class="figures">
        <Figure name="Status" value={str(row, "status").replace(/_/g, " ") || "–"} note={str(row, "name")} />
        <Figure name="Threads" value={show.count(n("nthreads"))} note={`${show.count(n("executing"))} busy`} />
        <Figure name="CPU" value={show.percent(n("cpu"))} note={`of ${show.count(n("nthreads") * 100)} %`} />
        <Figure
          name="Memory"
          value={show.bytes(n("memory"))}
          note={limit > 0 ? `of ${show.bytes(limit)}` : "no limit"}
        />
        <Figure name="Processing" value={show.count(n("processing"))} note={`${show.count(n("ready"))} ready`} />
        <Figure name="Results held" value={show.count(n("nkeys"))} note={show.bytes(n("nbytes"))} />
        <Figure
          name="Coming in"
          value={show.bytes(n("transfer_in"))}
          note={`${show.bytes(n("transfer_out"))} going out`}
        />
        <Figure name="Files open" value={show.count(n("fds"))} note={`loop ${show.seconds(row.loop)}`} />
      </div>
      <Panel
        title={address}
        actions={where.value?.actions !== false && <Retire address={address} name={str(row, "name") || address} />}
      >
        <div class="tall">
          <Bar parts={parts} most={Math.max(limit, n("memory"), 1)} mark={limit} />
        </div>
        <Legend items={parts} />
        <dl class="facts worker-facts">
          <dt>Status</dt>
          <dd>
            <WorkerStatus status={str(row, "status")} />
          </dd>
          {facts
            .filter(([, value]) => value !== "" && value !== "–")
            .flatMap(([name, value]) => [<dt key={name}>{name}</dt>, <dd key={`${name}=`}>{value}</dd>])}
        </dl>
      </Panel>
    </>
  );
}

/** Moves the worker's results elsewhere, then ends it. Asks once more: what it runs is run again elsewhere. */
function Retire({ address, name }: { address: string; name: string }) {
  const sure = useSignal(false);
  const said = useSignal("");
  const retire = async (): Promise<void> => {
    try {
      await act("POST", "api/v1/retire_workers", { workers: [address] });
      said.value = "Retiring: its results move to other workers.";
    } catch (error) {
      said.value = error instanceof Refusal ? `${error.message}. ${error.remedy}` : "It could not be retired.";
    }
    sure.value = false;
  };
  if (said.value) return <span role="status">{said.value}</span>;
  if (!sure.value) {
    return (
      <button type="button" onClick={() => (sure.value = true)}>
        Retire…
      </button>
    );
  }
  return (
    <>
      <span>Move the results of {name} elsewhere and end it?</span>
      <button type="button" class="danger" onClick={() => void retire()}>
        Retire
      </button>
      <button type="button" onClick={() => (sure.value = false)}>
        Keep
      </button>
    </>
  );
}

function Holds({ data }: { data: Row | null }) {
  const processing = rowsOf(data, "processing");
  const has = rowsOf(data, "has_what");
  return (
    <div class="grid">
      <div class="w6">
        <Panel title="Processing" summary={show.many(processing.length, "task")}>
          <Table
            caption="Tasks processing"
            rows={processing}
            id={(row) => str(row, "key")}
            empty={<Empty title="It has nothing to do" />}
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
              ...(processing.some((row) => num(row, "since") > 0)
                ? [
                    {
                      label: "Since",
                      num: true,
                      value: (row: Row) => num(row, "since"),
                      show: (row: Row) => show.clock(row.since),
                    },
                  ]
                : []),
            ]}
          />
        </Panel>
      </div>
      <div class="w6">
        <Panel
          title="Results held"
          summary={`${show.count(num(data, "keys_total", has.length))} keys${num(data, "keys_total") > has.length ? ", the largest" : ""}`}
        >
          <Table
            caption="Results held"
            rows={has}
            id={(row) => str(row, "key")}
            sort={-2}
            empty={<Empty title="It holds no results" />}
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
              { label: "Bytes", num: true, value: (row) => num(row, "nbytes"), show: (row) => show.bytes(row.nbytes) },
            ]}
          />
        </Panel>
      </div>
    </div>
  );
}

function Stacks({ address }: { address: string }) {
  const asked = useAsk(query("api/callstack", { worker: address }));
  const { data, error, busy } = asked.answer.value;
  const tasks = Object.values(data ?? {}).flatMap((keys) => Object.entries(asRow(keys)));
  return (
    <Panel
      title="Call stacks"
      summary={busy ? "asking the worker" : show.many(tasks.length, "running task")}
      actions={
        <button type="button" onClick={asked.again}>
          Refresh
        </button>
      }
    >
      {error && <Trouble error={error} />}
      {tasks.length === 0 && !error && (
        <Empty title={busy ? "Asking the worker" : "Nothing ran there at that moment"} />
      )}
      {tasks.map(([key, frames]) => (
        <div class="stack-of" key={key}>
          <h3>
            <a href={taskHref(key)} data-go>
              {key}
            </a>
          </h3>
          <pre class="log" tabIndex={0}>
            {list({ frames }, "frames").map(String).join("\n")}
          </pre>
        </div>
      ))}
    </Panel>
  );
}

function WorkerLog({ address }: { address: string }) {
  const asked = useAsk(query("api/workers/logs", { address, n: 500 }), 5_000);
  const { data, error, busy } = asked.answer.value;
  const lines = list(data, "lines").map((line, at) => ({
    at,
    level: Array.isArray(line) ? String(line[0]) : "",
    text: Array.isArray(line) ? String(line[1]) : String(line),
  }));
  return (
    <Panel title="Log of the worker" summary={`the newest ${show.count(lines.length)} lines`}>
      {error && <Trouble error={error} />}
      {lines.length === 0 && !error ? (
        <Empty title={busy ? "Asking the worker" : "The log is empty"} />
      ) : (
        <Table
          caption="Log of the worker"
          rows={lines}
          id={(line) => String(line.at)}
          columns={[
            { label: "Level", value: (line) => line.level },
            {
              label: "Text",
              wide: true,
              value: (line) => line.text,
              show: (line) => <span class="mono">{line.text}</span>,
            },
          ]}
        />
      )}
    </Panel>
  );
}
