// The page Groups: the tasks of one call each, by state.
import * as show from "../base/format";
import { list, str } from "../base/rows";
import { place, setQuery } from "../base/url";
import { Choice } from "../ui/Choice";
import { Panel } from "../ui/Panel";
import { Table, type Column } from "../ui/Table";
import { type Item, useItems, Nothing, figure, named } from "./items";
import { TaskList } from "./parts";

const GROUP_STATES = ["released", "waiting", "queued", "no_worker", "processing", "memory", "erred", "forgotten"];

export function Groups() {
  const prefix = place.value.query.get("prefix") ?? "";
  const all = useItems("groups");
  const shown = prefix === "" ? all : all.filter((item) => str(item.row, "prefix") === prefix);
  const prefixes = [...new Set(all.map((item) => str(item.row, "prefix")))].sort();
  const columns: Column<Item>[] = [
    named("Group", show.withoutHash),
    figure("Tasks", "total", show.count),
    ...GROUP_STATES.map((state) => figure(state.replace("_", " "), state, show.count)),
    {
      label: "Depends on",
      wide: true,
      value: (item) => list(item.row, "deps").length,
      show: (item) => show.names(list(item.row, "deps")) || "–",
    },
  ];
  return (
    <>
      <Panel
        title="Task groups"
        summary={show.many(shown.length, "group")}
        class="flush"
        actions={
          <Choice
            label="Prefix"
            value={prefix}
            options={prefixes.map((name) => [name, name])}
            onChoose={(next) => setQuery({ prefix: next })}
          />
        }
      >
        <Table
          columns={columns}
          rows={shown}
          id={(item) => item.id}
          caption="Task groups"
          empty={
            <Nothing topic="groups" title="No groups">
              A group is made of the tasks of one call, such as one <code>map</code>.
            </Nothing>
          }
        />
      </Panel>
      {prefix !== "" && <TaskList prefix={prefix} />}
    </>
  );
}
