// The statistical profile of the workers, over a chosen time, by prefix and worker.
import { useComputed, useSignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { clock, middle, seconds } from "../base/format";
import { query } from "../base/http";
import { num } from "../base/rows";
import { place, setQuery } from "../base/url";
import { rows, skew } from "../feed/store";
import { useTopics } from "../feed/subscription";
import { Flame, spent } from "../plots/Flame";
import { frameOf, hotSpots, type Frame, type Spot } from "../plots/flame";
import { useAsk } from "../ui/ask";
import { Empty, Panel, Trouble } from "../ui/Panel";
import type { TableSpec } from "../ui/Table";
import { useWorkers } from "./parts";
import { Choice } from "../ui/Choice";

const WINDOWS: readonly [string, string][] = [
  ["10", "last 10 s"],
  ["60", "last minute"],
  ["600", "last 10 minutes"],
  ["3600", "last hour"],
];

/** Seconds since the epoch by the scheduler's clock, taken once per choice so that the request stays the same. */
function start(window: string): number | null {
  const length = Number(window);
  return window === "" || !Number.isFinite(length) ? null : Math.floor(Date.now() / 1000 + skew.seconds - length);
}

export function Profile() {
  useTopics(["prefixes"]);
  const workers = useWorkers();
  const from = place.value.query;
  const prefix = from.get("prefix") ?? "";
  const worker = from.get("worker") ?? "";
  const window = from.get("window") ?? "";
  const begin = from.get("from") ?? "";
  const end = from.get("to") ?? "";
  const turn = useSignal(0);
  const search = useSignal("");
  const turnNow = turn.value;
  const path = useMemo(
    () => query("api/profile", { from: begin || start(window), to: end, prefix, worker }),
    [window, begin, end, prefix, worker, turnNow],
  );
  const asked = useAsk(path);
  const { data, error, busy } = asked.answer.value;
  const root = useComputed<Frame>(() => frameOf(asked.answer.value.data));
  const perSample = num(data, "seconds_per_sample");
  const prefixes = [...rows("prefixes").keys()].sort();
  const hot = root.value.value > 0 ? hotSpots(root.value)[0] : undefined;
  const summary = hot
    ? `most time in ${middle(hot.name, 40)}: ${spent(hot.own, root.value.value, perSample)} of ${perSample > 0 ? seconds(root.value.value * perSample) : "all"}`
    : busy
      ? "asking the workers"
      : "";
  return (
    <Panel
      title="Where the workers' threads spend their time"
      summary={summary}
      table={() => spotTable(root.value, perSample)}
      actions={
        <button
          type="button"
          onClick={() => {
            turn.value += 1;
            asked.again();
          }}
        >
          Refresh
        </button>
      }
    >
      <div class="tools profile-tools">
        {begin !== "" ? (
          <span class="pill">
            {clock(Number(begin))} – {clock(Number(end))}{" "}
            <button type="button" class="quiet" onClick={() => setQuery({ from: null, to: null })}>
              All times
            </button>
          </span>
        ) : (
          <Choice label="Time" value={window} options={WINDOWS} onChoose={(next) => setQuery({ window: next })} />
        )}
        <Choice
          label="Prefix"
          value={prefix}
          options={prefixes.map((name) => [name, name])}
          onChoose={(next) => setQuery({ prefix: next })}
        />
        <Choice
          label="Worker"
          value={worker}
          options={workers.map((one) => [one.address, one.name])}
          onChoose={(next) => setQuery({ worker: next })}
        />
        <input
          type="search"
          placeholder="Mark functions"
          aria-label="Mark functions by name or file"
          value={search.value}
          onInput={(event) => (search.value = event.currentTarget.value)}
        />
        {data && <span class="muted">as of {clock(Date.now() / 1000)}</span>}
      </div>
      {error && <Trouble error={error} />}
      {root.value.value > 0 ? (
        <Flame root={root.value} perSample={perSample} search={search.value} />
      ) : (
        !error && (
          <Empty title={busy ? "Asking the workers" : "No samples"}>
            {busy
              ? ""
              : "Workers look at their threads every 10 ms while tasks run. Compute something that takes a while, then refresh; or choose a longer time."}
          </Empty>
        )
      )}
    </Panel>
  );
}

function spotTable(root: Frame, perSample: number): TableSpec<Spot> {
  return {
    caption: "Functions by time",
    rows: hotSpots(root),
    id: (spot) => spot.id,
    sort: -2,
    columns: [
      { label: "Function", value: (spot) => spot.name, wide: true },
      {
        label: "In itself",
        num: true,
        value: (spot) => spot.own,
        show: (spot) => spent(spot.own, root.value, perSample),
      },
      { label: "In all", num: true, value: (spot) => spot.all, show: (spot) => spent(spot.all, root.value, perSample) },
      { label: "File", value: (spot) => spot.file, wide: true },
    ],
  };
}
