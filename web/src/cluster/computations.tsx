// The page Computations: one row for each call of a client.
import * as show from "../base/format";
import { list, num, str } from "../base/rows";
import { Panel } from "../ui/Panel";
import { Table, type Column } from "../ui/Table";
import { type Item, useItems, Nothing, figure } from "./items";

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
