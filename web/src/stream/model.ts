// The rectangles of the task stream that the page retains, by lane, in typed arrays. A lane has two tracks: computing
// (whole height) and everything else (low bars), since a transfer may run under a computation.
import { FAILED } from "../base/palette";
import type { Block } from "../feed/block";

/** Most rectangles retained. Unit: rectangles. 23 bytes each: about 25 MB. */
export const RETAINED_MAX = 1_000_000;
/** Share that is dropped at once when full, so that dropping is rare. */
const DROP_SHARE = 0.1;
const FIRST_CAPACITY = 64;

/** A growing set of columns, sorted by start. */
export class Track {
  start = new Float64Array(FIRST_CAPACITY);
  duration = new Float32Array(FIRST_CAPACITY);
  id = new Uint32Array(FIRST_CAPACITY);
  prefix = new Uint16Array(FIRST_CAPACITY);
  merged = new Uint16Array(FIRST_CAPACITY);
  action = new Uint8Array(FIRST_CAPACITY);
  length = 0;
  /** Longest rectangle ever added: how far before a view one may start and still reach in. Unit: ms. */
  longest = 0;

  /** Inserts one rectangle at its place; nearly always the end. */
  add(block: Block, row: number): void {
    if (this.length === this.start.length) this.resize(this.length * 2);
    const start = block.start[row] as number;
    let at = this.length;
    while (at > 0 && (this.start[at - 1] as number) > start) at -= 1;
    if (at < this.length) this.shift(at);
    this.start[at] = start;
    this.duration[at] = block.duration[row] as number;
    this.id[at] = block.id[row] as number;
    this.prefix[at] = block.prefix[row] as number;
    this.merged[at] = block.merged[row] as number;
    this.action[at] = block.action[row] as number;
    this.length += 1;
    if ((block.duration[row] as number) > this.longest) this.longest = block.duration[row] as number;
  }

  /** Drops what ended before `time`; gives the memory back when most of it is free. */
  dropBefore(time: number): number {
    let from = this.firstFrom(time - this.longest);
    while (from < this.length && (this.start[from] as number) + (this.duration[from] as number) < time) from += 1;
    if (from === 0) return 0;
    for (const column of this.columns()) column.copyWithin(0, from, this.length);
    this.length -= from;
    if (this.length * 4 < this.start.length && this.start.length > FIRST_CAPACITY) {
      this.resize(Math.max(FIRST_CAPACITY, this.length * 2));
    }
    return from;
  }

  /** Index of the first rectangle that starts at or after `time`. */
  firstFrom(time: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.start[middle] as number) < time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  private columns(): (Float64Array | Float32Array | Uint32Array | Uint16Array | Uint8Array)[] {
    return [this.start, this.duration, this.id, this.prefix, this.merged, this.action];
  }

  private shift(at: number): void {
    for (const column of this.columns()) column.copyWithin(at + 1, at, this.length);
  }

  private resize(capacity: number): void {
    const grow = <T extends { set(from: T): void; subarray(a: number, b: number): T }>(from: T, to: T): T => {
      to.set(from.subarray(0, this.length));
      return to;
    };
    this.start = grow<Float64Array>(this.start, new Float64Array(capacity)) as Float64Array<ArrayBuffer>;
    this.duration = grow<Float32Array>(this.duration, new Float32Array(capacity)) as Float32Array<ArrayBuffer>;
    this.id = grow<Uint32Array>(this.id, new Uint32Array(capacity)) as Uint32Array<ArrayBuffer>;
    this.prefix = grow<Uint16Array>(this.prefix, new Uint16Array(capacity)) as Uint16Array<ArrayBuffer>;
    this.merged = grow<Uint16Array>(this.merged, new Uint16Array(capacity)) as Uint16Array<ArrayBuffer>;
    this.action = grow<Uint8Array>(this.action, new Uint8Array(capacity)) as Uint8Array<ArrayBuffer>;
  }
}

/** One rectangle, as the pointer or the keyboard finds it. */
export interface Hit {
  readonly lane: number;
  readonly id: number;
  readonly start: number;
  readonly duration: number;
  readonly prefix: number;
  readonly action: number;
  readonly merged: number;
}

export interface Lane {
  readonly tasks: Track;
  readonly other: Track;
}

function isTask(action: number): boolean {
  return action === 0 || action === FAILED;
}

/** All lanes. */
export class StreamModel {
  readonly lanes = new Map<number, Lane>();
  count = 0;
  /** Time span of what is held. Unit: ms since the epoch. */
  first = Number.POSITIVE_INFINITY;
  last = Number.NEGATIVE_INFINITY;
  /** Coarsest thinning among what is held. Unit: seconds per pixel. */
  px = 0;
  /** Grows with every change: pictures made for an older one are stale. */
  version = 0;

  constructor(private readonly most = RETAINED_MAX) {}

  clear(): void {
    this.lanes.clear();
    this.count = 0;
    this.first = Number.POSITIVE_INFINITY;
    this.last = Number.NEGATIVE_INFINITY;
    this.px = 0;
    this.version += 1;
  }

  /** Takes a block in. */
  add(block: Block): void {
    if (block.first) this.clear();
    for (let row = 0; row < block.count; row += 1) {
      const number = block.lane[row] as number;
      const action = block.action[row] as number;
      let lane = this.lanes.get(number);
      if (!lane) {
        lane = { tasks: new Track(), other: new Track() };
        this.lanes.set(number, lane);
      }
      (isTask(action) ? lane.tasks : lane.other).add(block, row);
      const start = block.start[row] as number;
      const stop = start + (block.duration[row] as number);
      if (start < this.first) this.first = start;
      if (stop > this.last) this.last = stop;
    }
    this.count += block.count;
    if (block.thinned) this.px = Math.max(this.px, block.px);
    this.version += 1;
    if (this.count > this.most) this.shrink();
  }

  private shrink(): void {
    // Times are spread unevenly: cut until enough is gone.
    let span = (this.last - this.first) * DROP_SHARE;
    for (let turn = 0; turn < 20 && this.count > this.most * (1 - DROP_SHARE); turn += 1) {
      const cut = this.first + span;
      for (const [number, lane] of this.lanes) {
        this.count -= lane.tasks.dropBefore(cut) + lane.other.dropBefore(cut);
        if (lane.tasks.length + lane.other.length === 0) this.lanes.delete(number);
      }
      this.first = cut;
      span = (this.last - this.first) * DROP_SHARE;
    }
  }

  /** The rectangle of a lane at a time, or the nearest within `reach` ms. Low bars win where `low`. */
  at(number: number, time: number, reach: number, low: boolean): Hit | null {
    const lane = this.lanes.get(number);
    if (!lane) return null;
    const tracks = low ? [lane.other, lane.tasks] : [lane.tasks, lane.other];
    for (const track of tracks) {
      const row = nearest(track, time, reach);
      if (row >= 0) return hit(track, row, number);
    }
    return null;
  }

  /** The task before or after a time in a lane: for walking with the keyboard. */
  beside(number: number, time: number, step: 1 | -1): Hit | null {
    const track = this.lanes.get(number)?.tasks;
    if (!track || track.length === 0) return null;
    let row = track.firstFrom(time);
    if (step < 0) row -= 1;
    else if (row < track.length && track.start[row] === time) row += 1;
    return row >= 0 && row < track.length ? hit(track, row, number) : null;
  }

  /** Rectangles that touch the span, newest first, at most `most`; for the table. */
  within(from: number, to: number, most: number, keep: (hit: Hit) => boolean): { hits: Hit[]; total: number } {
    const hits: Hit[] = [];
    let total = 0;
    for (const [number, lane] of this.lanes) {
      for (const track of [lane.tasks, lane.other]) {
        for (let row = track.firstFrom(to) - 1; row >= 0; row -= 1) {
          const start = track.start[row] as number;
          if (start + track.longest < from) break;
          if (start + (track.duration[row] as number) < from) continue;
          const found = hit(track, row, number);
          if (!keep(found)) continue;
          total += found.merged;
          hits.push(found);
        }
      }
      if (hits.length > most * 8) hits.sort((a, b) => b.start - a.start).splice(most);
    }
    hits.sort((a, b) => b.start - a.start).splice(most);
    return { hits, total };
  }
}

function hit(track: Track, row: number, lane: number): Hit {
  return {
    lane,
    id: track.id[row] as number,
    start: track.start[row] as number,
    duration: track.duration[row] as number,
    prefix: track.prefix[row] as number,
    action: track.action[row] as number,
    merged: Math.max(1, track.merged[row] as number),
  };
}

function nearest(track: Track, time: number, reach: number): number {
  let best = -1;
  let distance = reach;
  for (let row = track.firstFrom(time + reach) - 1; row >= 0; row -= 1) {
    const start = track.start[row] as number;
    if (start + track.longest < time - reach) break;
    const stop = start + (track.duration[row] as number);
    const away = time < start ? start - time : time > stop ? time - stop : 0;
    if (away < distance || (away === 0 && best < 0)) {
      best = row;
      distance = away;
      if (away === 0) break;
    }
  }
  return best;
}
