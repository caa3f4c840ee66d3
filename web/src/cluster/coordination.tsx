// The page Coordination: locks, semaphores, events, queues, variables and datasets.
import * as show from "../base/format";
import { maybe, num, str, type Row } from "../base/rows";
import { Panel } from "../ui/Panel";
import { Table, type Column } from "../ui/Table";
import { type Item, useItems, Nothing, figure, words } from "./items";

export function Coordination() {
  const all = useItems("coordination");
  const columns: Column<Item>[] = [
    words("Kind", "kind"),
    words("Name", "name", true),
    { label: "State", wide: true, value: (item) => coordinationState(item.row) },
    { label: "Held by", value: (item) => str(item.row, "holder"), show: (item) => holders(item.row.holder) },
    figure("Waiting", "waiting", show.count),
  ];
  return (
    <Panel
      title="Locks, semaphores, events, queues, variables, datasets"
      summary={show.many(all.length, "one", "of them")}
      class="flush"
    >
      <Table
        columns={columns}
        rows={all}
        id={(item) => item.id}
        caption="Coordination primitives"
        sort={1}
        empty={
          <Nothing topic="coordination" title="None is in use">
            Made by <code>Lock</code>, <code>Semaphore</code>, <code>Event</code>, <code>Queue</code>,{" "}
            <code>Variable</code> and <code>publish_dataset</code>.
          </Nothing>
        }
      />
    </Panel>
  );
}

/** Locks and semaphores have a list of holders. */
function holders(held: unknown): string {
  return Array.isArray(held) ? held.map(String).join(", ") || "–" : show.text(held);
}

function coordinationState(row: Row): string {
  if (str(row, "text")) return str(row, "text");
  const parts: string[] = [];
  if (maybe(row, "leases") !== null)
    parts.push(`${show.count(num(row, "leases"))} of ${show.text(row.max_leases)} leases`);
  if (maybe(row, "size") !== null)
    parts.push(
      `${show.count(num(row, "size"))}${maybe(row, "maxsize") ? ` of ${show.count(num(row, "maxsize"))}` : ""} inside`,
    );
  if (typeof row.is_set === "boolean") parts.push(row.is_set ? "set" : "not set");
  if (row.value !== null && row.value !== undefined) parts.push(`= ${show.middle(show.text(row.value), 80)}`);
  return parts.join(", ") || "–";
}
