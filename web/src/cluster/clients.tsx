// The page Clients: who is connected, with which versions.
import * as show from "../base/format";
import { num, str } from "../base/rows";
import { overview } from "../feed/store";
import { Panel } from "../ui/Panel";
import { Table, type Column } from "../ui/Table";
import { type Item, useItems, Nothing, figure, words } from "./items";

export function Clients() {
  // Stands for results that nobody waits for; no client of its own.
  const all = useItems("clients").filter((item) => item.id !== "fire-and-forget" || num(item.row, "wants") > 0);
  const columns: Column<Item>[] = [
    { label: "Client", value: (item) => item.id, show: (item) => <span class="mono">{item.id}</span> },
    figure("Keys wanted", "wants", show.count),
    {
      label: "Last seen",
      num: true,
      value: (item) => num(item.row, "last_seen"),
      show: (item) => show.clock(item.row.last_seen),
    },
    words("Python", "python"),
    words("dask", "dask"),
    words("distributed", "distributed"),
  ];
  return (
    <Panel title="Clients" summary={show.many(all.length, "client")} class="flush">
      <Table
        columns={columns}
        rows={all}
        id={(item) => item.id}
        caption="Clients"
        sort={1}
        empty={
          <Nothing topic="clients" title="No client is connected">
            In Python:{" "}
            <pre>
              <code>{`from distributed import Client\nclient = Client("${str(overview(), "address") || "ADDRESS"}")`}</code>
            </pre>
          </Nothing>
        }
      />
    </Panel>
  );
}
