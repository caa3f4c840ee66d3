// The task stream: as a panel of the status page, and alone with filters.
import { useSignal } from "@preact/signals";
import { useCallback, useMemo } from "preact/hooks";
import * as show from "../base/format";
import { ACTIONS, actionHue, hue } from "../base/palette";
import { num, str } from "../base/rows";
import { dark } from "../base/theme";
import { place, setQuery } from "../base/url";
import { query } from "../base/http";
import { known, rows } from "../feed/store";
import { TaskStream, type StreamView } from "../stream/TaskStream";
import type { Hit } from "../stream/model";
import { NO_FILTER, type Filter } from "../stream/view";
import { Legend } from "../ui/Bars";
import { Choice } from "../ui/Choice";
import { Panel } from "../ui/Panel";
import type { TableSpec } from "../ui/Table";
import { TaskList, workerHref } from "./parts";

const TABLE_MOST = 500;

/** Keeps up with what is in view, a few times a second at most: words need not follow every frame. */
function useView() {
  const view = useSignal<StreamView | null>(null);
  const state = useMemo(() => ({ due: 0, shown: 0, latest: null as StreamView | null }), []);
  const take = useCallback((next: StreamView) => {
    state.latest = next;
    // The first bars are told of at once: nobody should read "nothing" above them.
    if (state.shown === 0 && next.model.count > 0) {
      state.shown = next.model.count;
      view.value = next;
      return;
    }
    if (state.due !== 0) return;
    state.due = window.setTimeout(() => {
      state.due = 0;
      view.value = state.latest;
    }, 400);
  }, []);
  return { view, take };
}

function summarise(view: StreamView | null): string {
  if (!view || view.model.count === 0) return known("lanes") ? "Nothing has run yet" : "";
  const span = (view.to - view.from) / 1000;
  const where = view.live ? "the last" : `${show.clock(view.from / 1000)}, `;
  return `${where} ${show.seconds(span)} · ${show.many(view.model.count, "bar")} held`;
}

function prefixLegend(): { name: string; tone: string }[] {
  return [...rows("names")]
    .map(([id, row]) => ({
      name: str(row, "name"),
      tone: hue(num(row, "color", Number(id)), dark.value),
      id: Number(id),
    }))
    .filter((item) => item.name !== "")
    .sort((a, b) => b.id - a.id)
    .slice(0, 12);
}

function actionLegend(): { name: string; tone: string; low: boolean }[] {
  return [1, 2, 4, 6].map((action) => ({
    name: ACTIONS[action] ?? "",
    tone: actionHue(action, dark.value),
    low: action !== 6,
  }));
}

/** The stream as a panel of the status page. */
export function StreamPanel() {
  const { view, take } = useView();
  return (
    <Panel
      title="Task stream"
      more="tasks"
      summary={summarise(view.value)}
      table={() => streamTable(view.peek(), NO_FILTER)}
    >
      <TaskStream onView={take}>
        <Legend items={[...prefixLegend(), ...actionLegend()]} />
      </TaskStream>
    </Panel>
  );
}

/** The page of the stream alone. */
export function Tasks() {
  const { view, take } = useView();
  const from = place.value.query;
  const filter = useMemo<Filter>(
    () => ({ prefix: from.get("prefix") ?? "", worker: from.get("worker") ?? "", action: from.get("action") ?? "" }),
    [from.get("prefix"), from.get("worker"), from.get("action")],
  );
  const state = from.get("state");
  if (state) return <TaskList state={state} prefix={filter.prefix} worker={filter.worker} />;
  return (
    <Panel
      title="Every thread's work over time"
      summary={summarise(view.value)}
      table={() => streamTable(view.peek(), filter)}
      actions={<Export view={view.value} />}
    >
      <Filters filter={filter} />
      <div class="page-stream">
        <TaskStream filter={filter} wheel onView={take}>
          <Legend items={[...prefixLegend(), ...actionLegend()]} />
        </TaskStream>
      </div>
    </Panel>
  );
}

/** A pane of nothing but the stream. */
export function BareStream() {
  const { view, take } = useView();
  return (
    <Panel title="Task stream" summary={summarise(view.value)} table={() => streamTable(view.peek(), NO_FILTER)}>
      <div class="bare-stream">
        <TaskStream wheel onView={take} />
      </div>
    </Panel>
  );
}

function Export({ view }: { view: StreamView | null }) {
  if (!view || view.model.count === 0) return null;
  const span = { from: Math.floor(view.from / 1000), to: Math.ceil(view.to / 1000) };
  return (
    <span class="row">
      <a href={query("profile", span)} data-go title="Where the threads spent this time">
        Profile
      </a>
      <a href={query("api/trace.json", span)} download="trace.json" title="For Perfetto or chrome://tracing">
        Export trace
      </a>
    </span>
  );
}

function Filters({ filter }: { filter: Filter }) {
  const prefixes = [...rows("names").values()]
    .map((row) => str(row, "name"))
    .filter(Boolean)
    .sort();
  const workers = new Map<string, string>();
  for (const row of rows("lanes").values()) workers.set(str(row, "worker"), str(row, "name") || str(row, "worker"));
  const any = filter.prefix !== "" || filter.worker !== "" || filter.action !== "";
  return (
    <div class="tools stream-filters">
      <Choice
        label="Prefix"
        value={filter.prefix}
        options={prefixes.map((name) => [name, name])}
        onChoose={(prefix) => setQuery({ prefix })}
      />
      <Choice
        label="Worker"
        value={filter.worker}
        options={[...workers].map(([address, name]) => [address, name])}
        onChoose={(worker) => setQuery({ worker })}
      />
      <Choice
        label="State"
        value={filter.action}
        options={ACTIONS.map((name) => [name, name])}
        onChoose={(action) => setQuery({ action })}
      />
      {any && (
        <button type="button" class="quiet" onClick={() => setQuery({ prefix: null, worker: null, action: null })}>
          Show all
        </button>
      )}
      <span class="muted hint">Wheel or +/− zooms, drag or arrows move, click opens the task</span>
    </div>
  );
}

function streamTable(view: StreamView | null, filter: Filter): TableSpec<Hit> {
  const names = rows("names");
  const lanes = rows("lanes");
  const prefixOf = (hit: Hit): string => str(names.get(String(hit.prefix)), "name", "other");
  const laneOf = (hit: Hit) => lanes.get(String(hit.lane));
  const keep = (hit: Hit): boolean =>
    (filter.prefix === "" || prefixOf(hit) === filter.prefix) &&
    (filter.worker === "" || str(laneOf(hit), "worker") === filter.worker) &&
    (filter.action === "" || ACTIONS[hit.action] === filter.action);
  const found = view ? view.model.within(view.from, view.to, TABLE_MOST, keep) : { hits: [], total: 0 };
  return {
    caption: `The newest ${found.hits.length} bars in view`,
    rows: found.hits,
    id: (hit) => `${hit.id}/${hit.action}`,
    columns: [
      { label: "Prefix", value: prefixOf, wide: true },
      { label: "State", value: (hit) => ACTIONS[hit.action] ?? "other" },
      { label: "Start", num: true, value: (hit) => hit.start, show: (hit) => show.clock(hit.start / 1000, true) },
      { label: "Took", num: true, value: (hit) => hit.duration, show: (hit) => show.seconds(hit.duration / 1000) },
      {
        label: "Worker",
        value: (hit) => str(laneOf(hit), "name") || str(laneOf(hit), "worker"),
        show: (hit) => (
          <a href={workerHref(str(laneOf(hit), "worker"))} data-go>
            {str(laneOf(hit), "name") || str(laneOf(hit), "worker")}
          </a>
        ),
      },
      { label: "Thread", num: true, value: (hit) => num(laneOf(hit), "n") },
      { label: "Tasks", num: true, value: (hit) => hit.merged },
    ],
  };
}
