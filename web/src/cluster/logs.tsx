// The page Scheduler log: warnings and errors of the scheduler.
import * as show from "../base/format";
import { num, str } from "../base/rows";
import { Panel } from "../ui/Panel";
import { Table, type Column } from "../ui/Table";
import { type Item, useItems, Nothing } from "./items";

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
