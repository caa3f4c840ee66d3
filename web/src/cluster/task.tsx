// One task: why it does not run, or where it ran; what it waits for; its story, its error, its neighbours.
import * as show from "../base/format";
import { list, maybe, num, obj, rowsOf, str, type Row } from "../base/rows";
import { query } from "../base/http";
import { place } from "../base/url";
import { useTopics } from "../feed/subscription";
import { peek } from "../feed/store";
import { useAsk } from "../ui/ask";
import { Empty, Panel, Trouble } from "../ui/Panel";
import { Table } from "../ui/Table";
import { tracebackOf } from "./exceptions";
import { State, taskHref, workerHref } from "./parts";

const REFRESH_MS = 2_000;

export function Task() {
  useTopics(["workers"]);
  const key = place.value.query.get("key") ?? "";
  const asked = useAsk(key === "" ? null : query("api/task", { key }), REFRESH_MS);
  const { data, error } = asked.answer.value;
  if (key === "")
    return <Empty title="No task is named">Open one from the task stream, a table, or the search box.</Empty>;
  if (error?.status === 404) {
    return (
      <Empty title={`The scheduler does not know ${show.middle(key, 80)}`}>
        It was released and forgotten, or never submitted. Tasks are forgotten when no client and no other task needs
        them any more.
      </Empty>
    );
  }
  if (!data) return error ? <Trouble error={error} /> : <Empty title="Asking the scheduler" />;
  return (
    <>
      {error && <Trouble error={error} />}
      <Facts task={data} />
      <Failure task={data} />
      <div class="grid">
        <div class="w6 stack">
          <Runs task={data} />
          <Near title="Dependencies" task={data} field="dependencies" none="It needs no other task." />
          <Near title="Dependents" task={data} field="dependents" none="No other task needs it." />
        </div>
        <div class="w6 stack">
          <Story task={data} />
        </div>
      </div>
    </>
  );
}

function WorkerLink({ address }: { address: string }) {
  if (address === "") return <>–</>;
  return (
    <a href={workerHref(address)} data-go>
      {str(peek("workers").get(address), "name") || show.shortAddress(address)}
    </a>
  );
}

function Workers({ addresses }: { addresses: readonly string[] }) {
  return (
    <>
      {addresses.map((address, at) => (
        <span key={address}>
          {at > 0 && ", "}
          <WorkerLink address={address} />
        </span>
      ))}
    </>
  );
}

function Facts({ task }: { task: Row }) {
  const why = obj(task, "why");
  const where = list(task, "where").map(String);
  const limits = restrictions(obj(task, "restrictions"));
  const optional: readonly (readonly [string, string])[] = [
    ["Type", str(task, "type")],
    ["Size", maybe(task, "nbytes") === null ? "" : show.bytes(task.nbytes)],
    ["Priority", task.priority ? show.text(task.priority) : ""],
    ["Retries left", num(task, "retries") > 0 ? show.count(task.retries) : ""],
    ["Lost with its worker", num(task, "suspicious") > 0 ? show.many(num(task, "suspicious"), "time") : ""],
    ["Only on", limits],
    ["Annotations", Object.keys(obj(task, "annotations")).length > 0 ? JSON.stringify(task.annotations) : ""],
    ["Wanted by", list(task, "wanted_by").map(String).join(", ")],
  ];
  return (
    <Panel title={show.middle(str(task, "key"), 110)} summary={str(why, "text")}>
      <dl class="facts">
        <dt>State</dt>
        <dd>
          <State state={str(task, "state")} />{" "}
          {maybe(task, "since") !== null && <span class="muted">since {show.moment(task.since)}</span>}
        </dd>
        <dt>Prefix</dt>
        <dd>
          <a href={query("groups", { prefix: str(task, "prefix") })} data-go>
            {str(task, "prefix")}
          </a>
        </dd>
        {where.length > 0 && <dt>Held by</dt>}
        {where.length > 0 && (
          <dd>
            <Workers addresses={where} />
          </dd>
        )}
        {str(task, "processing_on") && <dt>Runs on</dt>}
        {str(task, "processing_on") && (
          <dd>
            <WorkerLink address={str(task, "processing_on")} />
          </dd>
        )}
        {optional
          .filter(([, value]) => value !== "")
          .flatMap(([name, value]) => [<dt key={name}>{name}</dt>, <dd key={`${name}=`}>{value}</dd>])}
      </dl>
      <Reasons why={why} />
    </Panel>
  );
}

function restrictions(limits: Row): string {
  const parts = [
    ...list(limits, "workers").map(String),
    ...list(limits, "hosts").map((host) => `host ${String(host)}`),
    ...Object.entries(obj(limits, "resources")).map(([name, amount]) => `${show.text(amount)} ${name}`),
  ];
  return parts.length === 0
    ? ""
    : `${parts.join(", ")}${limits.loose === true ? " (or elsewhere, if none of these is there)" : ""}`;
}

function Reasons({ why }: { why: Row }) {
  const reasons = rowsOf(why, "reasons");
  if (reasons.length === 0) return null;
  return (
    <ul class="reasons">
      {reasons.map((reason) => (
        <li key={str(reason, "text")}>
          {str(reason, "text")}{" "}
          {str(reason, "link") && (
            <a href={str(reason, "link")} data-go>
              Look
            </a>
          )}
          {list(reason, "keys")
            .slice(0, 8)
            .map((key) => (
              <span key={String(key)}>
                {" "}
                <a href={taskHref(String(key))} data-go>
                  {show.middle(String(key), 48)}
                </a>
              </span>
            ))}
        </li>
      ))}
    </ul>
  );
}

function Failure({ task }: { task: Row }) {
  const failure = obj(task, "exception");
  if (!str(failure, "text") && !str(failure, "type")) return null;
  const blame = str(failure, "blame");
  const traceback = tracebackOf(failure);
  return (
    <Panel title="Error" summary={str(failure, "type")}>
      <div class="cause">
        <p class="cause-text mono bad">{str(failure, "text")}</p>
        {blame !== "" && blame !== str(task, "key") && (
          <p>
            It failed because{" "}
            <a href={taskHref(blame)} data-go>
              {show.middle(blame, 80)}
            </a>{" "}
            failed.
          </p>
        )}
        {traceback !== "" && (
          <pre class="log" tabIndex={0}>
            {traceback}
          </pre>
        )}
      </div>
    </Panel>
  );
}

function Runs({ task }: { task: Row }) {
  const runs = rowsOf(task, "runs");
  const took = (run: Row): number => num(run, "stop") - num(run, "start");
  return (
    <Panel
      title="Where it ran"
      summary={runs.length > 0 ? `${show.seconds(runs.reduce((sum, run) => sum + took(run), 0))} in all` : ""}
    >
      {runs.length === 0 ? (
        <Empty title="It has not run, or that is too long ago to be retained" />
      ) : (
        <Table
          caption="Runs"
          rows={runs.map((run, at) => ({ run, at }))}
          id={(row) => String(row.at)}
          columns={[
            {
              label: "What",
              value: ({ run }) => str(run, "action"),
              show: ({ run }) => (
                <span class={run.ok === false ? "bad" : ""}>
                  {str(run, "action")}
                  {run.ok === false ? " (failed)" : ""}
                </span>
              ),
            },
            {
              label: "Worker",
              value: ({ run }) => str(run, "worker"),
              show: ({ run }) => <WorkerLink address={str(run, "worker")} />,
            },
            {
              label: "Start",
              num: true,
              value: ({ run }) => num(run, "start"),
              show: ({ run }) => show.clock(run.start, true),
            },
            { label: "Took", num: true, value: ({ run }) => took(run), show: ({ run }) => show.seconds(took(run)) },
          ]}
        />
      )}
    </Panel>
  );
}

function Near({ title, task, field, none }: { title: string; task: Row; field: string; none: string }) {
  const near = rowsOf(task, field);
  const total = num(task, `${field}_total`, near.length);
  return (
    <Panel
      title={title}
      summary={total > near.length ? `${show.count(near.length)} of ${show.count(total)}` : show.count(total)}
    >
      {near.length === 0 ? (
        <Empty title={none} />
      ) : (
        <Table
          caption={title}
          rows={near}
          id={(row) => str(row, "key")}
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
          ]}
        />
      )}
    </Panel>
  );
}

function Story({ task }: { task: Row }) {
  const story = rowsOf(task, "story").map((step, at) => ({ step, at }));
  return (
    <Panel title="Story" summary={story.length > 0 ? `${show.many(story.length, "change")} of state` : ""}>
      {story.length === 0 ? (
        <Empty title="No changes retained" />
      ) : (
        <Table
          caption="Changes of state"
          rows={story}
          id={(row) => String(row.at)}
          columns={[
            {
              label: "Time",
              num: true,
              value: ({ step, at }) => num(step, "t") + at * 1e-9,
              show: ({ step }) => show.clock(step.t, true),
            },
            { label: "From", value: ({ step }) => str(step, "start") },
            {
              label: "To",
              value: ({ step }) => str(step, "finish"),
              show: ({ step }) => <State state={str(step, "finish")} />,
            },
            {
              label: "Because of",
              wide: true,
              value: ({ step }) => str(step, "stimulus"),
              show: ({ step }) => <span class="mono">{str(step, "stimulus")}</span>,
            },
          ]}
        />
      )}
    </Panel>
  );
}
