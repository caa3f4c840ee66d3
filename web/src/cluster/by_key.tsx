// Memory and time by key prefix, and time by action.
import * as show from "../base/format";
import { hue } from "../base/palette";
import { num } from "../base/rows";
import { dark } from "../base/theme";
import { Bars, Legend, type BarRow } from "../ui/Bars";
import { Panel } from "../ui/Panel";
import type { TableSpec } from "../ui/Table";
import { type Item, useItems, Nothing, figure, named } from "./items";

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
