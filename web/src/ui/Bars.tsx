// Horizontal bars, one per row, made of parts. Plain elements: they scale, can be read aloud, and cost little.
import { Empty } from "./Panel";

export interface Part {
  readonly name: string;
  readonly value: number;
  /** A class `c-NAME` of the style sheet, or a colour. */
  readonly tone: string;
}

export interface BarRow {
  readonly id: string;
  readonly label: string;
  readonly href?: string;
  readonly parts: readonly Part[];
  /** The value in words, at the right. */
  readonly text: string;
  /** A mark on the scale, e.g. a limit. */
  readonly mark?: number;
  /** Own end of the scale; else the largest of all rows. */
  readonly most?: number;
  readonly dim?: boolean;
}

const ROWS_MAX = 150;

export function Bars({ rows, most, empty }: { rows: readonly BarRow[]; most?: number; empty: string }) {
  if (rows.length === 0) return <Empty title={empty} />;
  const sum = (row: BarRow): number => row.parts.reduce((all, part) => all + Math.max(0, part.value), 0);
  const scale = most ?? Math.max(1e-9, ...rows.map(sum));
  return (
    <div class="bars" tabIndex={0} role="group" aria-label="Bars">
      {rows.slice(0, ROWS_MAX).map((row) => (
        <div class={`bar-row${row.dim ? " dim" : ""}`} key={row.id}>
          <span class="bar-label" title={row.label}>
            {row.href ? (
              <a href={row.href} data-go>
                {row.label}
              </a>
            ) : (
              row.label
            )}
          </span>
          <Bar parts={row.parts} most={row.most ?? scale} mark={row.mark} />
          <span class="bar-text">{row.text}</span>
        </div>
      ))}
      {rows.length > ROWS_MAX && <p class="more">{rows.length - ROWS_MAX} more; the table has all.</p>}
    </div>
  );
}

/** One bar of parts. */
export function Bar({ parts, most, mark }: { parts: readonly Part[]; most: number; mark?: number | undefined }) {
  const share = (value: number): string =>
    `${Math.min(100, Math.max(0, (value / Math.max(most, 1e-12)) * 100)).toFixed(2)}%`;
  return (
    <span class="bar" aria-hidden="true">
      {parts.map((part) => {
        const colour = part.tone.startsWith("#");
        const style = colour ? { width: share(part.value), backgroundColor: part.tone } : { width: share(part.value) };
        return part.value > 0 ? (
          <span key={part.name} class={colour ? "" : `c-${part.tone}`} style={style} title={part.name} />
        ) : null;
      })}
      {mark !== undefined && mark > 0 && <span class="bar-mark" style={{ left: share(mark) }} />}
    </span>
  );
}

/** What the colours mean. */
export function Legend({ items }: { items: readonly { name: string; tone: string; low?: boolean }[] }) {
  return (
    <ul class="legend">
      {items.map((item) => (
        <li key={item.name}>
          <span
            class={`swatch${item.low ? " low" : ""}${item.tone.startsWith("#") ? "" : ` c-${item.tone}`}`}
            style={item.tone.startsWith("#") ? { backgroundColor: item.tone } : {}}
            aria-hidden="true"
          />
          {item.name}
        </li>
      ))}
    </ul>
  );
}
