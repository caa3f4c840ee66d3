// The page Shuffle: P2P shuffles that run, by worker.
import * as show from "../base/format";
import { useTopics } from "../feed/subscription";
import { Panel } from "../ui/Panel";
import { Table, type Column } from "../ui/Table";
import { type Item, useItems, Nothing, figure, WorkerLink } from "./items";

export function Shuffle() {
  useTopics(["workers"]);
  const all = useItems("shuffle");
  const worker = (item: Item): string => item.id.split(" ").slice(1).join(" ");
  const name = (item: Item): string => item.id.split(" ")[0] ?? item.id;
  const columns: Column<Item>[] = [
    { label: "Shuffle", value: name, show: (item) => <span title={name(item)}>{show.middle(name(item), 18)}</span> },
    {
      label: "Worker",
      value: worker,
      show: (item) => (worker(item) === "" ? <strong>all</strong> : <WorkerLink address={worker(item)} />),
    },
    figure("Run", "run", show.count),
    figure("Sent", "comm_written", show.bytes),
    figure("Received", "comm_read", show.bytes),
    figure("Written to disk", "disk_written", show.bytes),
    figure("Read from disk", "disk_read", show.bytes),
    figure("Waiting to be sent", "comm_memory", show.bytes),
    figure("Waiting for disk", "disk_memory", show.bytes),
  ];
  return (
    <Panel title="Shuffles" summary={show.many(new Set(all.map(name)).size, "shuffle")} class="flush">
      <Table
        columns={columns}
        rows={all}
        id={(item) => item.id}
        caption="Shuffles"
        empty={
          <Nothing topic="shuffle" title="No shuffle runs">
            Joins, merges and rechunks of whole tables show here while they run.
          </Nothing>
        }
      />
    </Panel>
  );
}
