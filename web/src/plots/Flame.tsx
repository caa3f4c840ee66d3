// The flame graph on a canvas: click or Enter goes into a frame, Escape comes out, arrows walk.
import { useComputed, useSignal, type Signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { hue } from "../base/palette";
import { dark } from "../base/theme";
import { percent, seconds } from "../base/format";
import { own, place, tint, type Frame, type Slab } from "./flame";

const ROW_PX = 19;
const NARROWEST = 1 / 1600;

export interface FlameProps {
  readonly root: Frame;
  /** What one unit of value is worth. Unit: s; 0 if unknown. */
  readonly perSample: number;
  readonly search: string;
}

/** Seconds where the length of a sample is known, else a share. */
export function spent(value: number, root: number, perSample: number): string {
  const share = percent(root > 0 ? (value / root) * 100 : 0);
  return perSample > 0 ? `${seconds(value * perSample)} (${share})` : share;
}

export function Flame({ root, perSample, search }: FlameProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const focus = useSignal<Frame>(root);
  const chosen = useSignal<Slab | null>(null);
  const at = useSignal<{ x: number; y: number } | null>(null);
  const width = useSignal(0);
  if (!contains(root, focus.peek())) focus.value = root;
  const slabs = useComputed(() => place(focus.value, NARROWEST));
  const depth = slabs.value.reduce((most, slab) => Math.max(most, slab.depth), 0) + 1;
  useEffect(() => {
    const element = canvas.current?.parentElement;
    if (!element) return undefined;
    const size = new ResizeObserver(() => (width.value = element.clientWidth));
    size.observe(element);
    width.value = element.clientWidth;
    return () => size.disconnect();
  }, []);
  useEffect(() => {
    if (canvas.current && width.value > 0)
      paint(canvas.current, slabs.value, width.value, depth * ROW_PX, search, chosen.value);
  }, [slabs.value, width.value, depth, search, chosen.value, dark.value]);
  const find = (event: MouseEvent): Slab | null => {
    const box = canvas.current?.getBoundingClientRect();
    if (!box) return null;
    const share = (event.clientX - box.left) / box.width;
    const row = Math.floor((event.clientY - box.top) / ROW_PX);
    return (
      slabs.value.find((slab) => slab.depth === row && share >= slab.left && share < slab.left + slab.width) ?? null
    );
  };
  const enter = (slab: Slab | null): void => {
    if (!slab) return;
    focus.value = slab.frame === focus.value ? root : slab.frame;
    chosen.value = null;
    at.value = null;
  };
  const onMove = (event: MouseEvent): void => {
    const box = canvas.current?.getBoundingClientRect();
    chosen.value = find(event);
    at.value = box && chosen.value ? { x: event.clientX - box.left, y: event.clientY - box.top } : null;
  };
  const now = chosen.value;
  return (
    <div class="flame">
      {focus.value !== root && (
        <button type="button" class="quiet" onClick={() => (focus.value = root)}>
          Back to everything
        </button>
      )}
      <div class="flame-box">
        <canvas
          ref={canvas}
          tabIndex={0}
          role="application"
          aria-roledescription="flame graph"
          aria-label="Flame graph. Arrows walk, Enter goes into a frame, Escape comes out. The table holds the same."
          onMouseMove={onMove}
          onMouseLeave={() => {
            chosen.value = null;
            at.value = null;
          }}
          onClick={(event) => enter(find(event))}
          onKeyDown={(event) => onKey(event, slabs.value, chosen, enter, () => (focus.value = root))}
        />
        {now && (
          <div
            class={`tip${(at.value?.x ?? 0) > width.value / 2 ? " left" : ""}`}
            style={{
              left: `${at.value?.x ?? now.left * width.value}px`,
              top: `${at.value?.y ?? now.depth * ROW_PX}px`,
            }}
          >
            <strong>{now.frame.name}</strong>
            <span>{spent(now.frame.value, root.value, perSample)} in all</span>
            <span>{spent(own(now.frame), root.value, perSample)} in itself</span>
            {now.frame.file && (
              <span class="muted">
                {now.frame.file}
                {now.frame.line > 0 ? `:${now.frame.line}` : ""}
              </span>
            )}
          </div>
        )}
        <span class="sr" aria-live="polite">
          {now ? `${now.frame.name}, ${spent(now.frame.value, root.value, perSample)}` : ""}
        </span>
      </div>
    </div>
  );
}

function contains(root: Frame, frame: Frame): boolean {
  return root === frame || root.children.some((child) => contains(child, frame));
}

function onKey(
  event: KeyboardEvent,
  slabs: readonly Slab[],
  chosen: Signal<Slab | null>,
  enter: (slab: Slab | null) => void,
  leave: () => void,
): void {
  const now = chosen.value ?? slabs[0] ?? null;
  if (!now) return;
  const children = slabs.filter((slab) => slab.parent === now);
  const siblings = slabs.filter((slab) => slab.parent === now.parent);
  const index = siblings.indexOf(now);
  const moves: Record<string, () => void> = {
    ArrowDown: () => (chosen.value = chosen.value ? (children[0] ?? now) : now),
    ArrowUp: () => (chosen.value = now.parent ?? now),
    ArrowRight: () => (chosen.value = siblings[index + 1] ?? now),
    ArrowLeft: () => (chosen.value = siblings[index - 1] ?? now),
    Enter: () => enter(now),
    Escape: leave,
  };
  const move = moves[event.key];
  if (!move) return;
  event.preventDefault();
  move();
}

function paint(
  canvas: HTMLCanvasElement,
  slabs: readonly Slab[],
  width: number,
  height: number,
  search: string,
  chosen: Slab | null,
): void {
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  if (!context) return;
  const ink = getComputedStyle(canvas).getPropertyValue("--text").trim();
  context.scale(ratio, ratio);
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "middle";
  const words = search.toLowerCase();
  for (const slab of slabs) {
    const left = slab.left * width;
    const wide = Math.max(1, slab.width * width - 1);
    const top = slab.depth * ROW_PX;
    const found = words !== "" && (slab.frame.name + slab.frame.file).toLowerCase().includes(words);
    context.globalAlpha = words === "" ? 0.34 : found ? 0.62 : 0.12;
    context.fillStyle = slab.depth === 0 ? ink : hue(tint(slab.frame.file), dark.value);
    if (slab.depth === 0) context.globalAlpha = 0.1;
    context.fillRect(left, top, wide, ROW_PX - 1);
    context.globalAlpha = 1;
    if (slab === chosen) {
      context.strokeStyle = ink;
      context.strokeRect(left + 0.5, top + 0.5, wide - 1, ROW_PX - 2);
    }
    if (wide > 28) label(context, slab.frame.name, left + 5, top + ROW_PX / 2, wide - 8, ink);
  }
}

function label(context: CanvasRenderingContext2D, name: string, x: number, y: number, room: number, ink: string): void {
  context.fillStyle = ink;
  const fits = Math.floor(room / 6.6);
  context.fillText(name.length <= fits ? name : `${name.slice(0, Math.max(1, fits - 1))}…`, x, y, room);
}
