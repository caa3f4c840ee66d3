// The page Stealing: tasks that were moved from busy to idle workers.
import * as show from "../base/format";
import { num, str } from "../base/rows";
import { useTopics } from "../feed/subscription";
import { Panel } from "../ui/Panel";
import { Table, type Column } from "../ui/Table";
import { type Item, useItems, Nothing, figure, words, WorkerLink, TaskLink } from "./items";

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
