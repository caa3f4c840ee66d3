// The page Bandwidth: what workers measured when they fetched results from one another.
import * as show from "../base/format";
import { num, str } from "../base/rows";
import { overview } from "../feed/store";
import { useTopics } from "../feed/subscription";
import { Bars } from "../ui/Bars";
import { Panel } from "../ui/Panel";
import { Table, type Column, type TableSpec } from "../ui/Table";
import { type Item, useItems, Nothing, figure, words, WorkerLink } from "./items";

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
