// The page Hardware: memory, disk and network as the workers measure them when asked.
import { useSignal } from "@preact/signals";
import * as show from "../base/format";
import { num, obj, rowsOf, str, type Row } from "../base/rows";
import { Empty, Panel, Trouble } from "../ui/Panel";
import { Table } from "../ui/Table";
import { useAsk } from "../ui/ask";

/** Runs only when asked for: the benchmark keeps the workers busy for seconds. */
export function Hardware() {
  const wanted = useSignal(false);
  const asked = useAsk(wanted.value ? "api/hardware" : null);
  const { data, error, busy } = asked.answer.value;
  const rowsShown = data ? Object.entries(data).flatMap(([kind, value]) => hardwareRows(kind, value)) : [];
  return (
    <Panel
      title="Hardware"
      summary={
        busy && wanted.value ? "measuring: some seconds" : "Memory, disk and network as the workers measure them"
      }
      actions={
        <button
          type="button"
          disabled={busy && wanted.value}
          onClick={() => {
            if (wanted.value) asked.again();
            wanted.value = true;
          }}
        >
          {data ? "Measure again" : "Measure"}
        </button>
      }
    >
      {error && <Trouble error={error} />}
      {rowsShown.length > 0 ? (
        <Table
          caption="Hardware"
          rows={rowsShown}
          id={(row) => `${row.kind} ${row.size}`}
          columns={[
            { label: "What", value: (row) => row.kind },
            { label: "Block size", value: (row) => row.size },
            { label: "Bandwidth", num: true, value: (row) => row.value, show: (row) => show.rate(row.value) },
          ]}
        />
      ) : (
        !error && (
          <Empty title={busy && wanted.value ? "Measuring" : "Not measured yet"}>
            Measuring copies memory and writes files on every worker for a few seconds, so it waits for your click.
          </Empty>
        )
      )}
    </Panel>
  );
}

function hardwareRows(kind: string, value: unknown): { kind: string; size: string; value: number }[] {
  if (value === null || typeof value !== "object") return [];
  const row = { v: value } as Row;
  const from = Array.isArray(value)
    ? rowsOf(row, "v").map((one) => [str(one, "size"), num(one, "bandwidth")] as const)
    : Object.entries(obj(row, "v")).map(
        ([size, one]) => [size, typeof one === "number" ? one : Array.isArray(one) ? Number(one[0]) || 0 : 0] as const,
      );
  return from.map(([size, bandwidth]) => ({ kind: kind.replace(/_/g, " "), size, value: bandwidth }));
}
