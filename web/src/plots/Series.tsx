// Time series. uPlot draws; this gives it our colours, keeps its size, and hands the same numbers to a table.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { clock } from "../base/format";
import { dark } from "../base/theme";
import { Panel } from "../ui/Panel";
import type { TableSpec } from "../ui/Table";

export interface Line {
  readonly name: string;
  readonly values: readonly (number | null)[];
  readonly colour: string;
  readonly fill?: boolean;
  readonly dash?: boolean;
}

export interface SeriesProps {
  readonly title: string;
  readonly more?: string;
  readonly times: readonly number[];
  readonly lines: readonly Line[];
  readonly show: (value: unknown) => string;
  /** The scale reaches at least to here. */
  readonly least?: number;
  /** Bytes: the axis counts in powers of two. */
  readonly binary?: boolean;
  readonly empty: string;
}

const POWERS = Array.from({ length: 60 }, (_, at) => 2 ** at);

function summarise(props: SeriesProps): string {
  return props.lines
    .slice(0, 4)
    .map((line) => {
      const known = line.values.filter((value): value is number => value !== null);
      const last = known[known.length - 1];
      return last === undefined ? "" : `${line.name} ${props.show(last)}`;
    })
    .filter(Boolean)
    .join(" · ");
}

export function Series(props: SeriesProps) {
  return (
    <Panel
      title={props.title}
      summary={summarise(props)}
      table={() => seriesTable(props)}
      {...(props.more ? { more: props.more } : {})}
    >
      {props.times.length > 1 ? <Plot {...props} /> : <div class="plot plot-empty muted">{props.empty}</div>}
      <ul class="legend">
        {props.lines.map((line) => (
          <li key={line.name}>
            <span class="swatch" style={{ backgroundColor: line.colour }} aria-hidden="true" />
            {line.name}
          </li>
        ))}
      </ul>
    </Panel>
  );
}

function seriesTable(props: SeriesProps): TableSpec<number> {
  return {
    caption: props.title,
    rows: props.times.map((_, at) => at).reverse(),
    id: (at) => String(props.times[at]),
    columns: [
      { label: "Time", value: (at) => props.times[at] ?? null, show: (at) => clock(props.times[at]) },
      ...props.lines.map((line) => ({
        label: line.name,
        num: true,
        value: (at: number) => line.values[at] ?? null,
        show: (at: number) => props.show(line.values[at]),
      })),
    ],
  };
}

function Plot(props: SeriesProps) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const isDark = dark.value;
  const shape = `${isDark} ${props.lines.map((line) => line.name + line.colour).join(" ")}`;
  const data: uPlot.AlignedData = [
    props.times as number[],
    ...props.lines.map((line) => line.values as (number | null)[]),
  ];
  useEffect(() => {
    const at = box.current;
    if (!at) return undefined;
    plot.current = new uPlot(options(props, at), data, at);
    const size = new ResizeObserver(() => plot.current?.setSize({ width: at.clientWidth, height: at.clientHeight }));
    size.observe(at);
    return () => {
      size.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [shape]);
  useEffect(() => plot.current?.setData(data));
  return <div class="plot" ref={box} role="img" aria-label={`${props.title}: ${summarise(props)}`} />;
}

function options(props: SeriesProps, at: HTMLElement): uPlot.Options {
  const style = getComputedStyle(at);
  const read = (name: string): string => style.getPropertyValue(name).trim();
  const axis: uPlot.Axis = {
    stroke: read("--muted"),
    grid: { stroke: read("--line"), width: 1 },
    ticks: { stroke: read("--line"), width: 1, size: 4 },
    font: "11px system-ui, sans-serif",
  };
  return {
    width: Math.max(50, at.clientWidth),
    height: Math.max(50, at.clientHeight),
    legend: { show: false },
    padding: [8, 20, 0, 0],
    cursor: { y: false, points: { size: 6 } },
    scales: {
      x: { time: true },
      y: { range: (_, __, high) => [0, Math.max((Number.isFinite(high) ? high : 0) * 1.06, props.least ?? 0, 1e-9)] },
    },
    axes: [
      {
        ...axis,
        size: 26,
        gap: 3,
        space: 58,
        values: (_, splits) =>
          splits.map((time) => ((splits[1] ?? 0) - (splits[0] ?? 0) < 60 ? clock(time) : clock(time).slice(0, 5))),
      },
      {
        ...axis,
        size: 76,
        gap: 4,
        space: 34,
        ...(props.binary ? { incrs: POWERS } : {}),
        values: (_, splits) => splits.map((value) => props.show(value)),
      },
    ],
    series: [
      {},
      ...props.lines.map((line) => ({
        label: line.name,
        stroke: line.colour,
        width: 1.5,
        ...(line.fill ? { fill: `${line.colour}2a` } : {}),
        ...(line.dash ? { dash: [4, 4] } : {}),
        points: { show: false },
      })),
    ],
    hooks: { setCursor: [hint(props)] },
  };
}

/** Values under the pointer, in words. */
function hint(props: SeriesProps): (plot: uPlot) => void {
  let tip: HTMLElement | null = null;
  return (plot) => {
    tip ??= plot.over.appendChild(Object.assign(document.createElement("div"), { className: "tip" }));
    const { idx, left } = plot.cursor;
    const time = idx === null || idx === undefined ? undefined : plot.data[0][idx];
    tip.hidden = time === undefined || left === undefined || left < 0;
    if (tip.hidden || time === undefined) return;
    const lines = props.lines.map((line, at) => `${line.name} ${props.show(plot.data[at + 1]?.[idx as number])}`);
    tip.replaceChildren(
      ...[clock(time), ...lines].map((text) => Object.assign(document.createElement("span"), { textContent: text })),
    );
    tip.style.left = `${left}px`;
    tip.style.top = "0";
    tip.classList.toggle("left", (left ?? 0) > plot.over.clientWidth / 2);
  };
}
