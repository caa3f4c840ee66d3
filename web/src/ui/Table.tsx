// A table that sorts by its heads. Long ones show their first rows and say how many more there are.
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";

/** A cell's value: what is sorted by. */
export type Cell = string | number | null;

export interface Column<T> {
  readonly label: string;
  /** Sorted by this; shown as this unless `show` says otherwise. */
  readonly value: (row: T) => Cell;
  readonly show?: (row: T) => ComponentChildren;
  /** Numbers stand right and sort downwards first. */
  readonly num?: boolean;
  /** Names that may be long give way before figures do. */
  readonly wide?: boolean;
  /** Holds buttons: its head is only read aloud, and sorts nothing. */
  readonly buttons?: boolean;
}

// biome-ignore lint/suspicious/noExplicitAny: a table of anything; its columns know what
export interface TableSpec<T = any> {
  readonly columns: readonly Column<T>[];
  readonly rows: readonly T[];
  readonly id: (row: T) => string;
  /** Column sorted by at first; negative for downwards. 1 is the first column. */
  readonly sort?: number;
  readonly caption: string;
  readonly empty?: ComponentChildren;
}

const SHOWN_FIRST = 200;
const order = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

function compare(a: Cell, b: Cell): number {
  if (a === null || b === null) return a === b ? 0 : a === null ? -1 : 1;
  return typeof a === "number" && typeof b === "number" ? a - b : order.compare(String(a), String(b));
}

/** A table of one column set; sorts by any head. */
export function table<T>(spec: TableSpec<T>): TableSpec<T> {
  return spec;
}

export function Table<T>(spec: TableSpec<T>) {
  const sort = useSignal(spec.sort ?? 0);
  const shown = useSignal(SHOWN_FIRST);
  const column = spec.columns[Math.abs(sort.value) - 1];
  const rows = column
    ? [...spec.rows].sort((a, b) => Math.sign(sort.value) * compare(column.value(a), column.value(b)))
    : spec.rows;
  if (rows.length === 0 && spec.empty) return <>{spec.empty}</>;
  const click = (index: number, num: boolean): void => {
    const at = index + 1;
    sort.value = Math.abs(sort.value) === at ? -sort.value : num ? -at : at;
  };
  return (
    <div class="table-box" tabIndex={0} role="group" aria-label={spec.caption}>
      <table>
        <caption class="sr">{spec.caption}</caption>
        <thead>
          <tr>
            {spec.columns.map((head, index) => {
              if (head.buttons) {
                return (
                  <th key={head.label}>
                    <span class="sr">{head.label}</span>
                  </th>
                );
              }
              const at = Math.abs(sort.value) === index + 1 ? Math.sign(sort.value) : 0;
              return (
                <th
                  key={head.label}
                  class={head.num ? "num" : ""}
                  aria-sort={at === 0 ? undefined : at > 0 ? "ascending" : "descending"}
                >
                  <button type="button" onClick={() => click(index, head.num === true)}>
                    {head.label}
                    <span class="arrow" aria-hidden="true">
                      {at === 0 ? "" : at > 0 ? "▲" : "▼"}
                    </span>
                  </button>
                </th>
              );
            })}
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, shown.value).map((row) => (
            <tr key={spec.id(row)}>
              {spec.columns.map((cell) => (
                <td key={cell.label} class={`${cell.num ? "num" : ""}${cell.wide ? " wide" : ""}`}>
                  {cell.show ? cell.show(row) : (cell.value(row) ?? "–")}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {rows.length > shown.value && (
        <p class="more">
          {shown.value} of {rows.length} rows.{" "}
          <button type="button" class="quiet" onClick={() => (shown.value += SHOWN_FIRST * 5)}>
            Show more
          </button>
        </p>
      )}
    </div>
  );
}
