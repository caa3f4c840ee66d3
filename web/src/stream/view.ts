// Which part of the stream is shown: time span, lanes, filters. No drawing, no events of the browser.
import { num, str, type Rows } from "../base/rows";
import type { StreamModel } from "./model";

/** One line of the picture. */
export interface LaneInfo {
  readonly lane: number;
  readonly worker: string;
  readonly name: string;
  readonly host: string;
  readonly thread: number;
  readonly alive: boolean;
}

/** What is left out. Empty means nothing is. */
export interface Filter {
  readonly prefix: string;
  readonly worker: string;
  readonly action: string;
}

export const NO_FILTER: Filter = { prefix: "", worker: "", action: "" };

/** Spans that a live view takes by itself. Unit: ms. */
const STEPS_MS = [1_000, 2_000, 5_000, 10_000, 20_000, 30_000, 60_000];
/** Narrowest and widest span. Unit: ms. */
export const SPAN_LEAST_MS = 0.05;
export const SPAN_MOST_MS = 7 * 86_400_000;
/** Share of a live view that stays free at its right end. */
const MARGIN = 0.04;

/** Lanes in the order of the picture: by host, worker name, thread. Lanes of gone workers stay while they hold anything. */
export function orderLanes(lanes: Rows, filter: Filter, holds: (lane: number) => boolean): LaneInfo[] {
  const all: LaneInfo[] = [];
  for (const [id, row] of lanes) {
    const lane = Number(id);
    const worker = str(row, "worker");
    // A scheduler that does not say which lanes are in use shows those that something ran on.
    if (!Number.isInteger(lane) || (row.alive !== true && !holds(lane))) continue;
    const alive = row.alive !== false;
    if (filter.worker !== "" && filter.worker !== worker && filter.worker !== str(row, "name")) continue;
    all.push({ lane, worker, name: str(row, "name") || worker, host: str(row, "host"), thread: num(row, "n"), alive });
  }
  const text = new Intl.Collator("en", { numeric: true });
  return all.sort(
    (a, b) =>
      text.compare(a.host, b.host) ||
      text.compare(a.name, b.name) ||
      text.compare(a.worker, b.worker) ||
      a.thread - b.thread,
  );
}

/** The time span shown, following the present or held by the reader. Times: ms since the epoch. */
export class Window {
  from = 0;
  span = 30_000;
  /** Follows the newest. */
  live = true;
  /** The reader chose the span; else it fits what there is. */
  chosen = false;

  get to(): number {
    return this.from + this.span;
  }

  /** Moves a live view to the present. Where nothing happens any more it stays with what happened last. */
  follow(model: StreamModel, now: number): void {
    if (!this.live) return;
    if (!Number.isFinite(model.last)) {
      this.from = now - this.span * (1 - MARGIN);
      return;
    }
    if (!this.chosen) this.span = fitting(model);
    const right = Math.max(model.last, Math.min(now, model.last + this.span * 0.1));
    this.from = right - this.span * (1 - MARGIN);
  }

  /** Zooms by `factor` (< 1 closer) around the time at `share` of the width. */
  zoom(factor: number, share: number): void {
    const at = this.live ? 1 - MARGIN : share;
    const time = this.from + this.span * at;
    this.span = Math.min(SPAN_MOST_MS, Math.max(SPAN_LEAST_MS, this.span * factor));
    this.from = time - this.span * at;
    this.chosen = true;
  }

  /** Moves by a share of the span; leaves the present. */
  pan(share: number): void {
    this.from += this.span * share;
    this.live = false;
    this.chosen = true;
  }

  /** Shows exactly this. */
  show(from: number, to: number): void {
    this.span = Math.min(SPAN_MOST_MS, Math.max(SPAN_LEAST_MS, to - from));
    this.from = from;
    this.live = false;
    this.chosen = true;
  }
}

function fitting(model: StreamModel): number {
  const longest = STEPS_MS[STEPS_MS.length - 1] as number;
  const held = Math.min(longest, model.last - Math.max(model.first, model.last - longest));
  return STEPS_MS.find((step) => step * (1 - MARGIN) * 0.98 >= held) ?? longest;
}

/** Round time steps for the axis. Unit: ms. */
const TICKS_MS = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3,
  3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 216e5, 432e5, 864e5,
];

/** Positions and labels of the axis for a window drawn `width` pixels wide. */
export function ticks(from: number, span: number, width: number): { time: number; label: string }[] {
  const fewest = Math.max(1, Math.floor(width / 110));
  const step = TICKS_MS.find((size) => span / size <= fewest) ?? 864e5;
  const out: { time: number; label: string }[] = [];
  for (let time = Math.ceil(from / step) * step; time <= from + span && out.length < 60; time += step) {
    out.push({ time, label: tickLabel(time, step) });
  }
  return out;
}

function tickLabel(time: number, step: number): string {
  const date = new Date(time);
  const pad = (value: number, width = 2): string => String(value).padStart(width, "0");
  const minutes = `${pad(date.getHours())}:${pad(date.getMinutes())}`;
  if (step >= 60_000) return minutes;
  const whole = `${minutes}:${pad(date.getSeconds())}`;
  if (step >= 1_000) return whole;
  const figures = step >= 1 ? 3 : 6;
  // The fraction comes from the number itself: Date knows only whole milliseconds.
  const fraction = ((((time % 1000) + 1000) % 1000) / 1000).toFixed(figures).slice(2);
  return `${pad(date.getSeconds())}.${fraction}`;
}
