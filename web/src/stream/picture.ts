// The canvas of the task stream: geometry, painting, finding what lies under a point.
import { actionHue, hue, pixel, ACTIONS } from "../base/palette";
import { num, str, type Rows } from "../base/rows";
import type { Hit, StreamModel } from "./model";
import { paintBands, Strip, type Band, type Paint } from "./raster";
import { orderLanes, ticks, Window, type Filter, type LaneInfo } from "./view";

const AXIS_PX = 22;
const GUTTER_PX = 96;
/** Lines are not drawn thinner than this; more of them scroll. Unit: CSS pixels. */
const LANE_LEAST_PX = 3;
const LANE_MOST_PX = 64;
const OTHER_PREFIX = 65_535;

export interface Surroundings {
  readonly names: Rows;
  readonly lanes: Rows;
  readonly filter: Filter;
  readonly dark: boolean;
}

/** Colours of the page, as the style sheet has them. */
interface Ink {
  text: string;
  muted: string;
  line: string;
  surface: string;
  accent: string;
}

/** Draws a model through a window. */
export class Picture {
  readonly window = new Window();
  lanes: LaneInfo[] = [];
  /** First line shown, when not all fit. Unit: CSS pixels. */
  scroll = 0;
  selected: Hit | null = null;
  /** How long the last painting took. Unit: ms. */
  paintMs = 0;
  private width = 0;
  private height = 0;
  private ratio = 1;
  private image: ImageData | null = null;
  private readonly strip = new Strip();
  private readonly context: CanvasRenderingContext2D;
  private palette = new Uint32Array(65_536);
  private actions = new Uint32Array(ACTIONS.length);
  private ink: Ink = { text: "", muted: "", line: "", surface: "", accent: "" };

  constructor(private readonly canvas: HTMLCanvasElement) {
    const context = canvas.getContext("2d", { alpha: true });
    if (!context) throw new Error("this browser draws no canvas");
    this.context = context;
  }

  /** Takes over names, lanes, colours and filter. */
  surround(around: Surroundings, model: StreamModel): void {
    this.lanes = orderLanes(around.lanes, around.filter, (lane) => model.lanes.has(lane));
    const style = getComputedStyle(this.canvas);
    const read = (name: string): string => style.getPropertyValue(name).trim();
    this.ink = {
      text: read("--text"),
      muted: read("--muted"),
      line: read("--line"),
      surface: read("--surface"),
      accent: read("--accent"),
    };
    const { filter } = around;
    const only = filter.action;
    this.palette.fill(0);
    if (only === "" || only === "compute") {
      this.palette.fill(filter.prefix === "" ? pixel(actionHue(5, around.dark)) : 0, OTHER_PREFIX);
      for (const [id, row] of around.names) {
        const index = Number(id);
        if (!(index >= 0 && index < OTHER_PREFIX)) continue;
        const shown = filter.prefix === "" || filter.prefix === str(row, "name");
        if (shown) this.palette[index] = pixel(hue(num(row, "color", index), around.dark));
      }
    }
    for (let action = 1; action < ACTIONS.length; action += 1) {
      const shown = only === "" || only === ACTIONS[action];
      // A filter by prefix is about tasks: what moves between workers stays to be seen only where no prefix is chosen.
      const fits = filter.prefix === "" || ACTIONS[action] === "failed";
      this.actions[action] = shown && fits ? pixel(actionHue(action, around.dark)) : 0;
    }
  }

  /** Fits the canvas to its box. */
  resize(width: number, height: number, ratio: number): void {
    this.width = width;
    this.height = height;
    this.ratio = Math.min(2, Math.max(1, ratio));
    this.canvas.width = Math.max(1, Math.round(width * this.ratio));
    this.canvas.height = Math.max(1, Math.round(height * this.ratio));
    this.image = null;
  }

  /** Width of the names at the left. */
  get gutter(): number {
    return this.width < 520 ? 0 : GUTTER_PX;
  }

  /** Width of the drawing itself. Unit: CSS pixels. */
  get plotWidth(): number {
    return Math.max(1, this.width - this.gutter);
  }

  private get plotHeight(): number {
    return Math.max(1, this.height - AXIS_PX);
  }

  private get laneHeight(): number {
    if (this.lanes.length === 0) return LANE_MOST_PX;
    return Math.min(LANE_MOST_PX, Math.max(LANE_LEAST_PX, this.plotHeight / this.lanes.length));
  }

  /** Furthest that the lines can be scrolled. */
  get scrollMost(): number {
    return Math.max(0, this.lanes.length * this.laneHeight - this.plotHeight);
  }

  /** Seconds per device pixel now. */
  get px(): number {
    return this.window.span / 1000 / (this.plotWidth * this.ratio);
  }

  /** Time under a horizontal position. */
  timeAt(x: number): number {
    return this.window.from + ((x - this.gutter) / this.plotWidth) * this.window.span;
  }

  /** Share of the plot's width at a horizontal position. */
  shareAt(x: number): number {
    return Math.min(1, Math.max(0, (x - this.gutter) / this.plotWidth));
  }

  /** What lies under a point. */
  hitAt(model: StreamModel, x: number, y: number): Hit | null {
    if (x < this.gutter || y > this.plotHeight) return null;
    const position = (y + this.scroll) / this.laneHeight;
    const lane = this.lanes[Math.floor(position)];
    if (!lane) return null;
    const reach = (2 * this.window.span) / this.plotWidth;
    return model.at(lane.lane, this.timeAt(x), reach, position % 1 > 0.58);
  }

  /** Where a rectangle lies now, in CSS pixels. */
  boxOf(hit: Hit): { left: number; top: number; width: number; height: number } | null {
    const index = this.lanes.findIndex((lane) => lane.lane === hit.lane);
    if (index < 0) return null;
    const scale = this.plotWidth / this.window.span;
    const left = this.gutter + (hit.start - this.window.from) * scale;
    return {
      left,
      top: index * this.laneHeight - this.scroll,
      width: Math.max(2, hit.duration * scale),
      height: this.laneHeight,
    };
  }

  /** Paints everything. */
  paint(model: StreamModel): void {
    const began = performance.now();
    const { context, ratio } = this;
    this.scroll = Math.min(this.scrollMost, Math.max(0, this.scroll));
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.paintRectangles(model);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.paintAxis();
    if (this.gutter > 0) this.paintNames();
    if (this.selected) this.paintSelection(this.selected);
    this.paintMs = performance.now() - began;
  }

  private paintRectangles(model: StreamModel): void {
    const width = Math.round(this.plotWidth * this.ratio);
    const height = Math.round(this.plotHeight * this.ratio);
    if (!this.image || this.image.width !== width || this.image.height !== height)
      this.image = new ImageData(width, height);
    const paint: Paint = {
      from: this.window.from,
      scale: width / this.window.span,
      width,
      prefixes: this.palette,
      actions: this.actions,
      background: pixel(this.ink.surface.length === 7 ? this.ink.surface : "#ffffff"),
    };
    const bands: Band[] = [];
    const each = this.laneHeight * this.ratio;
    this.lanes.forEach((info, index) => {
      const top = Math.round(index * each - this.scroll * this.ratio);
      const bottom = Math.round((index + 1) * each - this.scroll * this.ratio);
      const lane = model.lanes.get(info.lane);
      if (lane && bottom > 0 && top < height) bands.push({ lane, top, height: bottom - top });
    });
    paintBands(new Uint32Array(this.image.data.buffer), height, bands, paint, this.strip);
    this.context.putImageData(this.image, Math.round(this.gutter * this.ratio), 0);
  }

  private paintAxis(): void {
    const { context } = this;
    const bottom = this.plotHeight;
    context.fillStyle = this.ink.muted;
    context.strokeStyle = this.ink.line;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.textAlign = "center";
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(this.gutter, bottom + 0.5);
    context.lineTo(this.width, bottom + 0.5);
    for (const tick of ticks(this.window.from, this.window.span, this.plotWidth)) {
      const x = Math.round(this.gutter + ((tick.time - this.window.from) / this.window.span) * this.plotWidth) + 0.5;
      context.moveTo(x, bottom);
      context.lineTo(x, bottom + 4);
      if (x > this.gutter + 34 && x < this.width - 34) context.fillText(tick.label, x, bottom + 13);
    }
    context.stroke();
  }

  private paintNames(): void {
    const { context } = this;
    context.save();
    context.beginPath();
    context.rect(0, 0, this.width, this.plotHeight);
    context.clip();
    context.textAlign = "left";
    context.font = "11px system-ui, sans-serif";
    let first = 0;
    for (let index = 1; index <= this.lanes.length; index += 1) {
      if (index < this.lanes.length && this.lanes[index]?.worker === this.lanes[first]?.worker) continue;
      this.paintName(first, index);
      first = index;
    }
    context.restore();
  }

  /** One worker's name beside its lines. */
  private paintName(first: number, end: number): void {
    const info = this.lanes[first];
    const top = first * this.laneHeight - this.scroll;
    const height = (end - first) * this.laneHeight;
    if (!info || top > this.plotHeight || top + height < 0) return;
    const { context } = this;
    if (first > 0) {
      context.fillStyle = this.ink.line;
      context.fillRect(0, Math.round(top), height >= 8 ? this.width : this.gutter, 1);
    }
    if (height < 11) return;
    context.fillStyle = info.alive ? this.ink.text : this.ink.muted;
    const name = info.name.replace(/^[a-z]+:\/\//, "");
    const middle = Math.min(Math.max(top, 0) + Math.min(height, this.plotHeight) / 2, top + height - 7);
    context.fillText(name.length > 14 ? `…${name.slice(-13)}` : name, 2, middle);
  }

  private paintSelection(hit: Hit): void {
    const box = this.boxOf(hit);
    if (!box) return;
    const { context } = this;
    context.save();
    context.beginPath();
    context.rect(this.gutter, 0, this.plotWidth, this.plotHeight);
    context.clip();
    context.strokeStyle = this.ink.accent;
    context.lineWidth = 2;
    context.strokeRect(box.left - 1, box.top + 1, box.width + 2, Math.max(3, box.height - 2));
    context.restore();
  }
}
