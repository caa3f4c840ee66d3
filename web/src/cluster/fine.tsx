// The page Fine metrics: where the time and bytes of the workers went, by activity.
import { useSignal } from "@preact/signals";
import * as show from "../base/format";
import { hue } from "../base/palette";
import { num, str, type Row } from "../base/rows";
import { dark } from "../base/theme";
import { Bars } from "../ui/Bars";
import { Choice } from "../ui/Choice";
import { Panel } from "../ui/Panel";
import { Table, type Column } from "../ui/Table";
import { type Item, useItems, Nothing, words } from "./items";

function fineValue(row: Row): string {
  const unit = str(row, "unit");
  return unit === "seconds"
    ? show.seconds(row.value)
    : unit === "bytes"
      ? show.bytes(row.value)
      : show.number(row.value);
}

export function Fine() {
  const all = useItems("fine");
  const unit = useSignal("seconds");
  const context = useSignal("");
  const contexts = [...new Set(all.map((item) => str(item.row, "context")))].sort();
  const units = [...new Set(all.map((item) => str(item.row, "unit")))].sort();
  const shown = all.filter(
    (item) =>
      str(item.row, "unit") === unit.value && (context.value === "" || str(item.row, "context") === context.value),
  );
  const byActivity = new Map<string, number>();
  for (const { row } of shown)
    byActivity.set(str(row, "activity"), (byActivity.get(str(row, "activity")) ?? 0) + num(row, "value"));
  const bars = [...byActivity]
    .sort((a, b) => b[1] - a[1])
    .map(([name, value], at) => ({
      id: name,
      label: name,
      text: fineValue({ unit: unit.value, value }),
      parts: [{ name, value, tone: hue(at, dark.value) }],
    }));
  const columns: Column<Item>[] = [
    words("Context", "context"),
    words("Prefix", "prefix", true),
    words("Activity", "activity"),
    { label: "Value", num: true, value: (item) => num(item.row, "value"), show: (item) => fineValue(item.row) },
  ];
  return (
    <>
      <Panel
        title="Where the workers' time went"
        summary={show.many(byActivity.size, "activity", "activities")}
        actions={
          <>
            <Choice
              label="Context"
              value={context.value}
              options={contexts.map((name) => [name, name])}
              onChoose={(next) => (context.value = next)}
            />
            <div class="tabs" role="tablist" aria-label="Unit">
              {(units.length > 0 ? units : ["seconds"]).map((name) => (
                <button
                  key={name}
                  type="button"
                  role="tab"
                  aria-selected={unit.value === name}
                  onClick={() => (unit.value = name)}
                >
                  {name}
                </button>
              ))}
            </div>
          </>
        }
      >
        {bars.length > 0 ? (
          <Bars rows={bars} empty="" />
        ) : (
          <Nothing topic="fine" title="No measurements yet">
            Workers send fine metrics with their heartbeats once tasks run.
          </Nothing>
        )}
      </Panel>
      {shown.length > 0 && (
        <Panel title="All measurements" summary={show.many(shown.length, "row")} class="flush">
          <Table columns={columns} rows={shown} id={(item) => item.id} caption="Fine performance metrics" sort={-4} />
        </Panel>
      )}
    </>
  );
}
