// Mouse, wheel, touch and keyboard on the task stream. Turns them into moves of the window; draws nothing.
import type { Picture } from "./picture";
import type { Hit, StreamModel } from "./model";

/** What input leads to. */
export interface Wishes {
  /** The window changed: paint. */
  changed(): void;
  hover(hit: Hit | null, x: number, y: number): void;
  open(hit: Hit): void;
  /** The keyboard chose a rectangle: say it. */
  chosen(hit: Hit): void;
}

const ZOOM_STEP = 1.25;
/** Movement up to here is a click, not a drag. Unit: CSS pixels. */
const CLICK_PX = 4;

/** Listens on the canvas until the answer is called. `wheel`: a plain wheel zooms (else only with Ctrl, so that the page scrolls). */
export function listen(
  canvas: HTMLCanvasElement,
  picture: Picture,
  model: () => StreamModel,
  wheel: boolean,
  wishes: Wishes,
): () => void {
  const stop = new AbortController();
  const on = <K extends keyof HTMLElementEventMap>(name: K, handler: (event: HTMLElementEventMap[K]) => void): void =>
    canvas.addEventListener(name, handler, { signal: stop.signal, passive: false });
  const fingers = new Map<number, { x: number; y: number }>();
  let moved = 0;

  const at = (event: MouseEvent): { x: number; y: number } => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  on("pointerdown", (event) => {
    fingers.set(event.pointerId, at(event));
    moved = 0;
    capture(canvas, event.pointerId);
  });
  on("pointermove", (event) => {
    const now = at(event);
    const before = fingers.get(event.pointerId);
    if (!before) return wishes.hover(picture.hitAt(model(), now.x, now.y), now.x, now.y);
    drag(picture, fingers, event.pointerId, now);
    moved += Math.abs(now.x - before.x) + Math.abs(now.y - before.y);
    fingers.set(event.pointerId, now);
    if (moved > CLICK_PX) {
      wishes.hover(null, 0, 0);
      wishes.changed();
    }
  });
  const release = (event: PointerEvent): void => {
    const held = fingers.delete(event.pointerId);
    if (!held || event.type === "pointercancel" || moved > CLICK_PX) return;
    const now = at(event);
    const hit = picture.hitAt(model(), now.x, now.y);
    if (hit && event.pointerType === "mouse") wishes.open(hit);
    else wishes.hover(hit, now.x, now.y);
  };
  on("pointerup", release);
  on("pointercancel", release);
  on("pointerleave", () => wishes.hover(null, 0, 0));
  on("dblclick", (event) => event.preventDefault());
  on("wheel", (event) => onWheel(event, picture, at(event), wheel, wishes));
  on("keydown", (event) => onKey(event, picture, model(), wishes));
  return () => stop.abort();
}

function capture(canvas: HTMLCanvasElement, pointer: number): void {
  try {
    canvas.setPointerCapture(pointer);
  } catch {
    // The pointer is gone already; dragging ends at the edge then.
  }
}

/** One finger or the mouse moves, two zoom around their middle. */
function drag(
  picture: Picture,
  fingers: Map<number, { x: number; y: number }>,
  moving: number,
  now: { x: number; y: number },
): void {
  const before = fingers.get(moving);
  if (!before) return;
  const others = [...fingers].filter(([id]) => id !== moving).map(([, point]) => point);
  const still = others[0];
  if (!still) {
    if (now.x !== before.x) picture.window.pan((before.x - now.x) / picture.plotWidth);
    picture.scroll += before.y - now.y;
    return;
  }
  const was = Math.max(10, Math.abs(before.x - still.x));
  const is = Math.max(10, Math.abs(now.x - still.x));
  picture.window.zoom(was / is, picture.shareAt((now.x + still.x) / 2));
}

function onWheel(
  event: WheelEvent,
  picture: Picture,
  point: { x: number; y: number },
  plain: boolean,
  wishes: Wishes,
): void {
  const sideways = event.shiftKey ? event.deltaY : event.deltaX;
  if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
    event.preventDefault();
    picture.window.pan(sideways / picture.plotWidth);
    wishes.changed();
    return;
  }
  if (!plain && !event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  const lines = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
  picture.window.zoom(Math.exp(Math.max(-1, Math.min(1, lines / 250))), picture.shareAt(point.x));
  wishes.changed();
}

function onKey(event: KeyboardEvent, picture: Picture, model: StreamModel, wishes: Wishes): void {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { window } = picture;
  const act: Record<string, () => void> = {
    ArrowLeft: () => (event.shiftKey ? walk(picture, model, -1, wishes) : window.pan(-0.15)),
    ArrowRight: () => (event.shiftKey ? walk(picture, model, 1, wishes) : window.pan(0.15)),
    ArrowUp: () => lane(picture, model, -1, wishes),
    ArrowDown: () => lane(picture, model, 1, wishes),
    "+": () => window.zoom(1 / ZOOM_STEP, 0.5),
    "=": () => window.zoom(1 / ZOOM_STEP, 0.5),
    "-": () => window.zoom(ZOOM_STEP, 0.5),
    "0": () => fit(picture, model),
    Home: () => fit(picture, model),
    End: () => follow(picture),
    f: () => follow(picture),
    Enter: () => picture.selected && wishes.open(picture.selected),
    Escape: () => (picture.selected = null),
  };
  const chosen = act[event.key];
  if (!chosen) return;
  event.preventDefault();
  chosen();
  wishes.changed();
}

/** Everything that is held, in one view. */
export function fit(picture: Picture, model: StreamModel): void {
  if (!Number.isFinite(model.first)) return;
  const room = Math.max(1, (model.last - model.first) * 0.02);
  picture.window.show(model.first - room, model.last + room);
}

/** Back to the present. */
export function follow(picture: Picture): void {
  picture.window.live = true;
  picture.window.chosen = false;
}

/** The next or previous task of the lane, brought into view. */
function walk(picture: Picture, model: StreamModel, step: 1 | -1, wishes: Wishes): void {
  const now = picture.selected;
  const number = now?.lane ?? picture.lanes[0]?.lane;
  if (number === undefined) return;
  const next = model.beside(number, now?.start ?? picture.window.from, step);
  if (next) select(picture, next, wishes);
}

function lane(picture: Picture, model: StreamModel, step: number, wishes: Wishes): void {
  const now = picture.selected;
  const index = now ? picture.lanes.findIndex((info) => info.lane === now.lane) : step > 0 ? -1 : picture.lanes.length;
  for (let next = index + step; next >= 0 && next < picture.lanes.length; next += step) {
    const number = picture.lanes[next]?.lane;
    if (number === undefined) return;
    const time = now?.start ?? picture.window.from + picture.window.span / 2;
    const hit = model.at(number, time, Number.POSITIVE_INFINITY, false);
    if (hit) {
      select(picture, hit, wishes);
      return;
    }
  }
}

function select(picture: Picture, hit: Hit, wishes: Wishes): void {
  picture.selected = hit;
  const { window } = picture;
  if (hit.start < window.from || hit.start + hit.duration > window.to) {
    window.from = hit.start + hit.duration / 2 - window.span / 2;
    window.live = false;
    window.chosen = true;
  }
  wishes.chosen(hit);
}
