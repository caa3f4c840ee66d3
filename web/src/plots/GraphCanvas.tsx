// The task graph on a canvas. Layout happens in a worker thread where the browser allows one; states recolour the nodes
// without a new layout.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { hue, stateHue } from "../base/palette";
import { dark } from "../base/theme";
import { middle } from "../base/format";
import { layOut, type LayoutAnswer, type LayoutAsk } from "./layout";

/** A task or a group of tasks. */
export interface GraphNode {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly colour: number;
  readonly detail: string;
  readonly dependsOn: readonly string[];
  readonly href: string;
}

// The script that this page runs; loaded as a worker it serves layouts. Read while it is being run: later it is null.
const script = typeof document === "undefined" ? "" : ((document.currentScript as HTMLScriptElement | null)?.src ?? "");

let worker: Worker | null = null;
let asked = 0;

function layoutSomewhere(ask: LayoutAsk): Promise<LayoutAnswer> {
  return new Promise((done) => {
    const here = (): void => done(layOut(ask));
    try {
      if (script === "") throw new Error("no script of our own");
      worker ??= new Worker(script);
    } catch {
      // A sandboxed frame may not start one: five thousand nodes take a moment here instead.
      setTimeout(here, 0);
      return;
    }
    const mine = worker;
    const onMessage = (event: MessageEvent<LayoutAnswer>): void => {
      if (event.data.id !== ask.id) return;
      mine.removeEventListener("message", onMessage);
      done(event.data);
    };
    mine.addEventListener("message", onMessage);
    mine.onerror = () => {
      worker = null;
      here();
    };
    mine.postMessage(ask);
  });
}

function askFor(nodes: readonly GraphNode[]): LayoutAsk {
  const index = new Map(nodes.map((node, at) => [node.id, at]));
  const from: number[] = [];
  const to: number[] = [];
  nodes.forEach((node, at) => {
    for (const id of node.dependsOn) {
      const source = index.get(id);
      if (source === undefined) continue;
      from.push(source);
      to.push(at);
    }
  });
  asked += 1;
  return { id: asked, nodes: nodes.length, from: Int32Array.from(from), to: Int32Array.from(to) };
}

interface Scene {
  readonly ask: LayoutAsk;
  readonly at: LayoutAnswer;
}

interface Camera {
  /** Unit: pixels per place within a layer. */
  scale: number;
  /** A step between layers is this much wider than one within. */
  readonly aspect: number;
  x: number;
  y: number;
}

const MARGIN_PX = 30;
/** Layers are not drawn further apart than this. */
const LAYER_MOST_PX = 300;
/** Room for the names of the last layer. */
const LABEL_PX = 90;

export function GraphCanvas({ nodes, onOpen }: { nodes: readonly GraphNode[]; onOpen: (node: GraphNode) => void }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const scene = useRef<Scene | null>(null);
  const camera = useRef<Camera | null>(null);
  const size = useSignal({ width: 0, height: 0 });
  const turn = useSignal(0);
  const chosen = useSignal(-1);
  const shape = useRef("");
  const now = useRef(nodes);
  now.current = nodes;
  const key = `${nodes.length} ${nodes[0]?.id} ${nodes[nodes.length - 1]?.id} ${nodes.reduce((sum, node) => sum + node.dependsOn.length, 0)}`;

  useEffect(() => {
    const box = canvas.current?.parentElement;
    if (!box) return undefined;
    const look = new ResizeObserver(() => (size.value = { width: box.clientWidth, height: box.clientHeight }));
    look.observe(box);
    return () => look.disconnect();
  }, []);
  useEffect(() => {
    if (shape.current === key) return;
    shape.current = key;
    const ask = askFor(nodes);
    void layoutSomewhere(ask).then((at) => {
      if (shape.current !== key) return;
      scene.current = { ask, at };
      camera.current = null;
      chosen.value = -1;
      turn.value += 1;
    });
  }, [key]);
  useEffect(() => {
    if (!canvas.current || !scene.current || size.value.width === 0) return;
    camera.current ??= fitted(scene.current.at, size.value);
    paint(canvas.current, scene.current, camera.current, nodes, size.value, chosen.value);
  }, [nodes, turn.value, size.value, dark.value, chosen.value]);
  useEffect(() => {
    if (!canvas.current) return undefined;
    return listen(canvas.current, scene, camera, {
      changed: () => (turn.value += 1),
      choose: (index) => (chosen.value = index),
      chosen: () => chosen.value,
      open: (index) => {
        const node = now.current[index];
        if (node) onOpen(node);
      },
      home: () => {
        camera.current = null;
        turn.value += 1;
      },
    });
  }, []);
  const pointed = nodes[chosen.value];
  const spot =
    pointed && scene.current && camera.current ? where(scene.current.at, camera.current, chosen.value) : null;
  return (
    <div class="graph-box">
      <canvas
        ref={canvas}
        tabIndex={0}
        role="application"
        aria-roledescription="task graph"
        aria-label="Task graph. Arrows walk along dependencies, plus and minus zoom, 0 shows all, Enter opens a task. The table holds the same."
      />
      {pointed && spot && (
        <div
          class={`tip${spot.x > size.value.width / 2 ? " left" : ""}${spot.y > size.value.height / 2 ? " above" : ""}`}
          style={{ left: `${spot.x}px`, top: `${spot.y}px` }}
        >
          <strong>{middle(pointed.name, 90)}</strong>
          <span>{pointed.detail || pointed.state}</span>
        </div>
      )}
      <span class="sr" aria-live="polite">
        {pointed ? `${pointed.name}, ${pointed.detail || pointed.state}` : ""}
      </span>
    </div>
  );
}

function fitted(at: LayoutAnswer, size: { width: number; height: number }): Camera {
  const wide = Math.max(1, at.layers - 1);
  const tall = Math.max(1, at.tallest);
  // Layers may lie wider apart than nodes of one layer: it reads better along the arrows.
  const scale = Math.min((size.height - 2 * MARGIN_PX) / tall, 46);
  const step = Math.min(LAYER_MOST_PX, (size.width - LABEL_PX - 2 * MARGIN_PX) / wide);
  const aspect = Math.max(0.2, step / scale);
  return {
    scale,
    aspect,
    x: (size.width - LABEL_PX - wide * scale * aspect) / 2 / (scale * aspect),
    y: (size.height - tall * scale) / 2 / scale,
  };
}

function where(at: LayoutAnswer, camera: Camera, index: number): { x: number; y: number } {
  return {
    x: ((at.x[index] as number) + camera.x) * camera.scale * camera.aspect,
    y: ((at.y[index] as number) + camera.y) * camera.scale,
  };
}

interface Hands {
  changed(): void;
  choose(index: number): void;
  chosen(): number;
  open(index: number): void;
  home(): void;
}

type Held<T> = { current: T | null };

function listen(canvas: HTMLCanvasElement, scene: Held<Scene>, camera: Held<Camera>, hands: Hands): () => void {
  const stop = new AbortController();
  const on = <K extends keyof HTMLElementEventMap>(name: K, handler: (event: HTMLElementEventMap[K]) => void): void =>
    canvas.addEventListener(name, handler, { signal: stop.signal, passive: false });
  let held: { x: number; y: number } | null = null;
  let moved = 0;
  const point = (event: MouseEvent): { x: number; y: number } => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const zoom = (factor: number, x: number, y: number): void => {
    const see = camera.current;
    if (!see || !scene.current) return;
    const before = { x: x / (see.scale * see.aspect) - see.x, y: y / see.scale - see.y };
    see.scale = Math.min(400, Math.max(0.02, see.scale * factor));
    see.x = x / (see.scale * see.aspect) - before.x;
    see.y = y / see.scale - before.y;
    hands.changed();
  };
  on("pointerdown", (event) => {
    held = point(event);
    moved = 0;
    canvas.setPointerCapture(event.pointerId);
  });
  on("pointermove", (event) => {
    const now = point(event);
    if (!held) return hands.choose(nearest(scene.current, camera.current, now));
    move(scene.current, camera.current, now.x - held.x, now.y - held.y);
    moved += Math.abs(now.x - held.x) + Math.abs(now.y - held.y);
    held = now;
    hands.changed();
  });
  on("pointerup", (event) => {
    held = null;
    const index = nearest(scene.current, camera.current, point(event));
    if (moved < 5 && index >= 0) hands.open(index);
  });
  on("pointerleave", () => hands.choose(-1));
  on("wheel", (event) => {
    event.preventDefault();
    const now = point(event);
    zoom(Math.exp(-Math.max(-1, Math.min(1, event.deltaY / 250))), now.x, now.y);
  });
  on("keydown", (event) => {
    const middle = { x: canvas.clientWidth / 2, y: canvas.clientHeight / 2 };
    const act: Record<string, () => void> = {
      "+": () => zoom(1.3, middle.x, middle.y),
      "=": () => zoom(1.3, middle.x, middle.y),
      "-": () => zoom(1 / 1.3, middle.x, middle.y),
      "0": hands.home,
      Enter: () => hands.open(hands.chosen()),
      ArrowRight: () => hands.choose(step(scene.current, hands.chosen(), "after")),
      ArrowLeft: () => hands.choose(step(scene.current, hands.chosen(), "before")),
      ArrowDown: () => hands.choose(step(scene.current, hands.chosen(), "down")),
      ArrowUp: () => hands.choose(step(scene.current, hands.chosen(), "up")),
      Escape: () => hands.choose(-1),
    };
    const wanted = act[event.key];
    if (!wanted || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    wanted();
  });
  return () => stop.abort();
}

function move(scene: Scene | null, camera: Camera | null, dx: number, dy: number): void {
  if (!scene || !camera) return;
  camera.x += dx / (camera.scale * camera.aspect);
  camera.y += dy / camera.scale;
}

function nearest(scene: Scene | null, camera: Camera | null, point: { x: number; y: number }): number {
  if (!scene || !camera) return -1;
  let best = -1;
  let distance = 14 * 14;
  for (let index = 0; index < scene.ask.nodes; index += 1) {
    const spot = where(scene.at, camera, index);
    const away = (spot.x - point.x) ** 2 + (spot.y - point.y) ** 2;
    if (away < distance) [best, distance] = [index, away];
  }
  return best;
}

/** The node to go to from `index` by keyboard. */
function step(scene: Scene | null, index: number, way: "after" | "before" | "up" | "down"): number {
  if (!scene) return -1;
  if (index < 0) return scene.ask.nodes > 0 ? 0 : -1;
  const { ask, at } = scene;
  if (way === "after" || way === "before") {
    const [here, there] = way === "after" ? [ask.from, ask.to] : [ask.to, ask.from];
    const edge = here.indexOf(index);
    return edge < 0 ? index : (there[edge] as number);
  }
  let best = index;
  let distance = Number.POSITIVE_INFINITY;
  for (let other = 0; other < ask.nodes; other += 1) {
    const gap = ((at.y[other] as number) - (at.y[index] as number)) * (way === "down" ? 1 : -1);
    if (at.x[other] === at.x[index] && gap > 0 && gap < distance) [best, distance] = [other, gap];
  }
  return best;
}

function paint(
  canvas: HTMLCanvasElement,
  scene: Scene,
  camera: Camera,
  nodes: readonly GraphNode[],
  size: { width: number; height: number },
  chosen: number,
): void {
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  canvas.width = Math.round(size.width * ratio);
  canvas.height = Math.round(size.height * ratio);
  const context = canvas.getContext("2d");
  if (!context) return;
  const style = getComputedStyle(canvas);
  const read = (name: string): string => style.getPropertyValue(name).trim();
  context.scale(ratio, ratio);
  paintEdges(context, scene, camera, chosen, read("--line-strong"), read("--accent"));
  const radius = Math.min(9, Math.max(1.5, camera.scale * 0.3));
  const letters = Math.min(40, Math.floor((camera.scale * camera.aspect * scene.at.room - radius * 2 - 12) / 6.4));
  const text = camera.scale > 13 && letters >= 4;
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  for (let index = 0; index < scene.ask.nodes; index += 1) {
    const node = nodes[index];
    const spot = where(scene.at, camera, index);
    if (!node || spot.x < -60 || spot.y < -20 || spot.x > size.width + 20 || spot.y > size.height + 20) continue;
    context.fillStyle = stateHue(node.state, dark.value);
    context.beginPath();
    // A shape besides the colour: what failed is square, what runs is wider.
    if (node.state === "erred") context.rect(spot.x - radius, spot.y - radius, radius * 2, radius * 2);
    else context.arc(spot.x, spot.y, node.state === "processing" ? radius * 1.25 : radius, 0, 2 * Math.PI);
    context.fill();
    context.lineWidth = index === chosen ? 3 : 1.5;
    context.strokeStyle = index === chosen ? read("--accent") : hue(node.colour, dark.value);
    if (radius > 3 || index === chosen) context.stroke();
    if (text) {
      context.fillStyle = read("--text");
      // A halo keeps edges from running through the letters.
      context.lineWidth = 4;
      context.lineJoin = "round";
      context.strokeStyle = read("--surface");
      context.strokeText(middle(node.name, letters), spot.x + radius + 4, spot.y);
      context.fillText(middle(node.name, letters), spot.x + radius + 4, spot.y);
    }
  }
}

function paintEdges(
  context: CanvasRenderingContext2D,
  scene: Scene,
  camera: Camera,
  chosen: number,
  plain: string,
  accent: string,
): void {
  const { from, to } = scene.ask;
  context.lineWidth = 1;
  context.globalAlpha = from.length > 2_000 ? 0.25 : 0.5;
  context.strokeStyle = plain;
  const trace = (edge: number): void => {
    const a = where(scene.at, camera, from[edge] as number);
    const b = where(scene.at, camera, to[edge] as number);
    const bend = (b.x - a.x) / 2;
    context.moveTo(a.x, a.y);
    context.bezierCurveTo(a.x + bend, a.y, b.x - bend, b.y, b.x, b.y);
  };
  context.beginPath();
  for (let edge = 0; edge < from.length; edge += 1) trace(edge);
  context.stroke();
  context.globalAlpha = 1;
  if (chosen < 0) return;
  context.strokeStyle = accent;
  context.lineWidth = 2;
  context.beginPath();
  for (let edge = 0; edge < from.length; edge += 1) {
    if (from[edge] === chosen || to[edge] === chosen) trace(edge);
  }
  context.stroke();
}
