// Pages that only tell: the machine, peers, settings, history.
import { useSignal } from "@preact/signals";
import * as show from "../base/format";
import type { Refusal } from "../base/http";
import { list, maybe, num, obj, rowsOf, str, type Row } from "../base/rows";
import { Bar } from "../ui/Bars";
import { Empty, Figure, Panel, Trouble } from "../ui/Panel";
import { Table } from "../ui/Table";
import { attempt, useApi } from "./api";
import { Waiting } from "./clusters";

export function Host() {
  const asked = useApi("/host", 3_000);
  const { data, error } = asked.answer.value;
  if (!data) return error ? <Trouble error={error} /> : <Waiting title="This machine" />;
  const load = list(data, "load").map(Number);
  const total = num(data, "memory_total");
  const used = Math.max(0, total - num(data, "memory_available"));
  const cores = num(data, "cores");
  const gpus = rowsOf(data, "gpus");
  const free = num(data, "disk_available");
  return (
    <>
      {error && <Trouble error={error} />}
      <div class="figures">
        <Figure name="Cores for workers" value={show.count(cores)} note="affinity and quota counted" />
        <Figure name="Memory for workers" value={show.bytes(data.memory)} note="limits counted" />
        <Figure
          name="Load"
          value={load.length > 0 ? (load[0] ?? 0).toFixed(2) : "–"}
          note={load
            .slice(1)
            .map((one) => one.toFixed(2))
            .join(", ")}
          tone={(load[0] ?? 0) > cores * 1.5 ? "warn" : undefined}
        />
        <Figure name="Up" value={show.seconds(data.uptime)} note={str(data, "kernel")} />
      </div>
      <Panel
        title={str(data, "name") || "This machine"}
        summary={total > 0 ? `${show.bytes(used)} of ${show.bytes(total)} memory in use` : ""}
      >
        <div class="tall">
          <Bar
            parts={[{ name: "in use", value: used, tone: "managed" }]}
            most={Math.max(1, total)}
            mark={num(data, "memory")}
          />
        </div>
        <dl class="facts worker-facts">
          {free > 0 && <dt>Disk free</dt>}
          {free > 0 && <dd>{show.bytes(free)}</dd>}
          <dt>GPU</dt>
          <dd>{gpus.length > 0 ? gpus.map((gpu) => str(gpu, "name")).join(", ") : "none found"}</dd>
        </dl>
      </Panel>
    </>
  );
}

/** A clock that is off, and what its worker pools are about. */
function notes(peer: Row): string {
  const skew = Math.round(num(peer, "clock_skew_ms") / 1000);
  const clock = Math.abs(skew) > 30 ? [`its clock is off by ${skew} s`] : [];
  const groups = rowsOf(peer, "groups").filter((group) => str(group, "note"));
  return [
    ...clock,
    ...groups.map((group) => `${str(group, "cluster")}: ${str(group, "phase")}: ${str(group, "note")}`),
  ].join("; ");
}

export function Peers() {
  // An appliance without --lan has no such route: asked once, not again and again.
  const gone = useSignal(false);
  const asked = useApi("/peers", gone.value ? 0 : 3_000);
  const failed = useSignal<Refusal | null>(null);
  const { data, error, busy } = asked.answer.value;
  const all = rowsOf(data, "items");
  const act = async (method: string, path: string): Promise<void> => {
    failed.value = (await attempt(method, path)).error;
    asked.again();
  };
  // An appliance that takes no peers has no such route: that is not an error to shout about.
  const none = error?.status === 404;
  if (none && !gone.peek()) gone.value = true;
  return (
    <>
      {failed.value && <Trouble error={failed.value} />}
      {error && !none && <Trouble error={error} />}
      <Panel title="Machines that joined" summary={show.many(all.length, "peer")} class="flush">
        <Table
          caption="Peers"
          rows={all}
          id={(row) => str(row, "name") || str(row, "id")}
          empty={
            <Empty title={busy ? "Asking the appliance" : "No other machine has joined"}>
              Start this one with <code>rask up --lan</code>, make a join token here with{" "}
              <code>rask token create --join</code>, and on the other machine:
              <pre>
                <code>{`rask join https://${window.location.host} --token TOKEN`}</code>
              </pre>
            </Empty>
          }
          columns={[
            { label: "Name", value: (row) => str(row, "name") || str(row, "id") },
            {
              label: "State",
              value: (row) => str(row, "state"),
              show: (row) => (
                <span class={`pill ${str(row, "state") === "up" ? "good" : "warn"}`}>{str(row, "state")}</span>
              ),
            },
            { label: "Address", value: (row) => str(row, "address") },
            { label: "Cores", num: true, value: (row) => num(obj(row, "facts"), "cores") },
            {
              label: "Memory",
              num: true,
              value: (row) => num(obj(row, "facts"), "memory_bytes"),
              show: (row) => show.bytes(obj(row, "facts").memory_bytes),
            },
            {
              label: "Free",
              num: true,
              value: (row) => num(obj(row, "facts"), "memory_free_bytes"),
              show: (row) => show.bytes(obj(row, "facts").memory_free_bytes),
            },
            {
              label: "Workers",
              num: true,
              value: (row) => rowsOf(row, "groups").reduce((sum, group) => sum + num(group, "running"), 0),
            },
            {
              label: "Load",
              num: true,
              value: (row) => num(obj(row, "facts"), "load"),
              show: (row) => show.number(maybe(obj(row, "facts"), "load")),
            },
            { label: "Python", value: (row) => str(obj(row, "facts"), "python") },
            { label: "rask", value: (row) => str(obj(row, "facts"), "version") },
            {
              label: "Heard",
              num: true,
              value: (row) => num(row, "silent_ms"),
              show: (row) =>
                maybe(row, "silent_ms") === null ? "never" : `${(num(row, "silent_ms") / 1000).toFixed(1)} s ago`,
            },
            { label: "Notes", value: (row) => notes(row) },
            {
              label: "Actions",
              buttons: true,
              value: () => null,
              show: (row) => (
                <span class="row">
                  {/^drain/.test(str(row, "state")) ? (
                    <button
                      type="button"
                      onClick={() => void act("POST", `/peers/${encodeURIComponent(str(row, "name"))}/resume`)}
                    >
                      Resume
                    </button>
                  ) : (
                    <button
                      type="button"
                      onClick={() => void act("POST", `/peers/${encodeURIComponent(str(row, "name"))}/drain`)}
                    >
                      Drain
                    </button>
                  )}
                  <button
                    type="button"
                    class="danger"
                    onClick={() => void act("DELETE", `/peers/${encodeURIComponent(str(row, "name"))}`)}
                  >
                    Remove
                  </button>
                </span>
              ),
            },
          ]}
        />
      </Panel>
    </>
  );
}

interface Setting {
  readonly section: string;
  readonly key: string;
  readonly value: unknown;
}

function flatten(row: Row, path: readonly string[]): Setting[] {
  return Object.entries(row).flatMap(([name, value]) => {
    if (value !== null && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length > 0)
      return flatten(value as Row, [...path, name]);
    return [{ section: path.join("."), key: name, value }];
  });
}

export function Settings() {
  const asked = useApi("/settings");
  const words = useSignal("");
  const { data, error } = asked.answer.value;
  if (!data) return error ? <Trouble error={error} /> : <Waiting title="Settings" />;
  const all = flatten(data, []).filter((one) => `${one.section}.${one.key}`.includes(words.value.toLowerCase()));
  return (
    <Panel
      title="Settings in force"
      summary="Set in rask.toml, as RASK_SECTION__KEY, or by flags; secrets are masked"
      class="flush"
      actions={
        <input
          type="search"
          placeholder="Filter"
          aria-label="Filter the settings"
          value={words.value}
          onInput={(event) => (words.value = event.currentTarget.value)}
        />
      }
    >
      <Table
        caption="Settings"
        rows={all}
        id={(row) => `${row.section}.${row.key}`}
        empty={<Empty title="No setting is called like that" />}
        columns={[
          {
            label: "Section",
            value: (row) => row.section,
            show: (row) => <span class="mono">{row.section === "" ? "–" : `[${row.section}]`}</span>,
          },
          { label: "Key", value: (row) => row.key, show: (row) => <span class="mono">{row.key}</span> },
          {
            label: "Value",
            wide: true,
            value: (row) => show.text(row.value),
            show: (row) => <span class="mono">{show.text(row.value)}</span>,
          },
        ]}
      />
    </Panel>
  );
}

export function History() {
  const asked = useApi("/history", 30_000);
  const { data, error } = asked.answer.value;
  if (!data) return error ? <Trouble error={error} /> : <Waiting title="History" />;
  const clusters = rowsOf(data, "clusters");
  const computations = rowsOf(data, "computations");
  const time = (row: Row, name: string): number => num(row, name) / 1000;
  const took = (row: Row): number => (num(row, "stop_time") > 0 ? time(row, "stop_time") - time(row, "start_time") : 0);
  return (
    <>
      <Panel
        title="Clusters that ended"
        summary={`${show.many(clusters.length, "cluster")} within 30 days`}
        class="flush"
      >
        <Table
          caption="Clusters that ended"
          rows={clusters}
          id={(row) => `${str(row, "name")} ${num(row, "start_time")}`}
          sort={-5}
          empty={<Empty title="No cluster has ended yet" />}
          columns={[
            { label: "Name", value: (row) => str(row, "name") },
            { label: "User", value: (row) => str(row, "user") },
            {
              label: "Status",
              value: (row) => str(row, "status"),
              show: (row) => (
                <span class={`pill ${str(row, "status") === "FAILED" ? "bad" : ""}`}>
                  {str(row, "status").toLowerCase()}
                </span>
              ),
            },
            { label: "Why", wide: true, value: (row) => str(row, "reason") },
            {
              label: "Start",
              num: true,
              value: (row) => time(row, "start_time"),
              show: (row) => show.moment(time(row, "start_time")),
            },
            {
              label: "End",
              num: true,
              value: (row) => time(row, "stop_time"),
              show: (row) => show.moment(time(row, "stop_time")),
            },
            { label: "Lived", num: true, value: took, show: (row) => show.seconds(took(row)) },
          ]}
        />
      </Panel>
      <Panel title="Computations" summary={show.many(computations.length, "computation")} class="flush">
        <Table
          caption="Computations"
          rows={computations}
          id={(row) => `${str(row, "cluster")} ${str(row, "id")}`}
          sort={-3}
          empty={<Empty title="Nothing was computed yet" />}
          columns={[
            { label: "Cluster", value: (row) => str(row, "cluster") },
            {
              label: "Groups",
              wide: true,
              value: (row) => list(obj(row, "body"), "groups").length,
              show: (row) => show.names(list(obj(row, "body"), "groups")),
            },
            {
              label: "Start",
              num: true,
              value: (row) => time(row, "start_time"),
              show: (row) => show.moment(time(row, "start_time")),
            },
            {
              label: "Took",
              num: true,
              value: took,
              show: (row) => (num(row, "stop_time") > 0 ? show.seconds(took(row)) : "runs"),
            },
            {
              label: "Tasks",
              num: true,
              value: (row) => num(obj(row, "body"), "tasks"),
              show: (row) => show.text(obj(row, "body").tasks),
            },
          ]}
        />
      </Panel>
    </>
  );
}
