// The task stream as a part of a page: canvas, tooltip, tools. The drawing itself is in picture.ts.
import { effect, signal, useSignal, type Signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { dark } from "../base/theme";
import { clock, count, many, seconds, shortAddress } from "../base/format";
import { ACTIONS } from "../base/palette";
import { str } from "../base/rows";
import { go } from "../base/url";
import { query } from "../base/http";
import { offline, rows, serverTime, skew } from "../feed/store";
import { useTopics, type Detail } from "../feed/subscription";
import { fit, follow, listen } from "./input";
import type { Hit, StreamModel } from "./model";
import { Picture } from "./picture";
import { Source, type Named } from "./source";
import { NO_FILTER, type Filter } from "./view";

export interface StreamProps {
  readonly filter?: Filter;
  /** A plain wheel zooms. For pages that show nothing else. */
  readonly wheel?: boolean;
  /** Told of what is in view after each change. */
  readonly onView?: (view: StreamView) => void;
  /** What stands below the picture: the legend. */
  readonly children?: ComponentChildren;
}

/** What is in view, for summary and table. Times: ms since the epoch. */
export interface StreamView {
  readonly model: StreamModel;
  readonly from: number;
  readonly to: number;
  readonly live: boolean;
  readonly paintMs: number;
}

interface Tip {
  readonly hit: Hit;
  readonly x: number;
  readonly y: number;
  readonly named: Named | null;
}

/** How far back a first look goes: a record that ended longer ago is asked for as a window. Unit: s. */
const BACK_MOST_S = 3_600;

/** Everything that one stream on screen consists of. */
class Stage {
  readonly picture: Picture;
  readonly source: Source;
  private frame = 0;
  private lanes = 0;
  private stops: (() => void)[] = [];
  model: StreamModel;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly props: Signal<StreamProps>,
    private readonly tip: Signal<Tip | null>,
    private readonly said: Signal<string>,
    readonly live: Signal<boolean>,
  ) {
    this.picture = new Picture(canvas);
    this.source = new Source(() => this.redraw());
    this.model = this.source.live;
    const box = new ResizeObserver(() => this.measure());
    box.observe(canvas.parentElement ?? canvas);
    this.stops.push(() => box.disconnect());
    if (offline.value) fit(this.picture, this.source.live);
    this.stops.push(effect(() => this.surround()));
    this.stops.push(effect(() => void (serverTime.value && this.picture.window.live && this.redraw())));
    this.stops.push(
      listen(canvas, this.picture, () => this.model, props.peek().wheel === true, {
        changed: () => this.redraw(),
        hover: (hit, x, y) => this.hover(hit, x, y),
        open: (hit) => void this.open(hit),
        chosen: (hit) => void this.say(hit),
      }),
    );
  }

  close(): void {
    cancelAnimationFrame(this.frame);
    this.source.close();
    for (const stop of this.stops) stop();
  }

  /** Paints with the next frame, however often it is asked before. */
  redraw(): void {
    if (this.frame === 0) this.frame = requestAnimationFrame(() => this.paint());
  }

  private surround(): void {
    const names = rows("names");
    const lanes = rows("lanes");
    const filter = this.props.value.filter ?? NO_FILTER;
    this.picture.surround({ names, lanes, filter, dark: dark.value }, this.source.live);
    this.redraw();
  }

  private measure(): void {
    const box = this.canvas.parentElement?.getBoundingClientRect();
    if (!box || box.width === 0) return;
    this.picture.resize(box.width, box.height, window.devicePixelRatio);
    this.paint();
  }

  private paint(): void {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const { picture, source } = this;
    // Lanes show once something ran on them.
    if (source.live.lanes.size !== this.lanes) {
      this.lanes = source.live.lanes.size;
      this.surround();
      return;
    }
    const view = picture.window;
    view.follow(source.live, Date.now() + skew.seconds * 1000);
    if (this.live.peek() !== view.live) this.live.value = view.live;
    this.model = source.modelFor(view.from, view.to, picture.px, view.live);
    picture.paint(this.model);
    this.canvas.dataset.paintMs = picture.paintMs.toFixed(2);
    this.canvas.dataset.held = String(this.model.count);
    this.props
      .peek()
      .onView?.({ model: this.model, from: view.from, to: view.to, live: view.live, paintMs: picture.paintMs });
  }

  private hover(hit: Hit | null, x: number, y: number): void {
    this.canvas.classList.toggle("pointing", hit !== null);
    if (!hit) {
      if (this.tip.peek()) this.tip.value = null;
      return;
    }
    const fresh = this.tip.peek()?.hit.id !== hit.id;
    this.tip.value = { hit, x, y, named: this.source.nameAtHand(hit) };
    if (fresh) void this.nameTip(hit);
  }

  private async nameTip(hit: Hit): Promise<void> {
    // A pointer that only passes by asks nothing.
    await new Promise((done) => setTimeout(done, 60));
    if (this.tip.peek()?.hit.id !== hit.id) return;
    const named = await this.source.name(hit);
    const now = this.tip.peek();
    if (now?.hit.id === hit.id) this.tip.value = { ...now, named };
  }

  private async say(hit: Hit): Promise<void> {
    const box = this.picture.boxOf(hit);
    if (box)
      this.tip.value = {
        hit,
        x: box.left + box.width / 2,
        y: box.top + box.height / 2,
        named: this.source.nameAtHand(hit),
      };
    const named = await this.source.name(hit);
    const now = this.tip.peek();
    if (now?.hit.id === hit.id) this.tip.value = { ...now, named };
    this.said.value = `${named?.key ?? actionName(hit)}, ${seconds(hit.duration / 1000)}, from ${clock(hit.start / 1000, true)}. Enter opens it.`;
  }

  private async open(hit: Hit): Promise<void> {
    const named = await this.source.name(hit);
    if (named?.key) go(query("task", { key: named.key }));
  }
}

function actionName(hit: Hit): string {
  return ACTIONS[hit.action] ?? "other";
}

/** The stream in a box whose size the style sheet gives. */
export function TaskStream(props: StreamProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const stage = useRef<Stage | null>(null);
  const held = useMemo(() => signal<StreamProps>(props), []);
  const tip = useSignal<Tip | null>(null);
  const said = useSignal("");
  const live = useSignal(true);
  const span = useSignal(0);
  if (held.peek().filter !== props.filter || held.peek().onView !== props.onView) held.value = props;

  useEffect(() => {
    if (!canvas.current) return undefined;
    const made = new Stage(canvas.current, held, tip, said, live);
    stage.current = made;
    void made.source.askBounds().then(({ last }) => {
      const ago = last > 0 ? Date.now() / 1000 + skew.seconds - last : 0;
      if (offline.value) return;
      if (ago > BACK_MOST_S - 60) made.picture.window.show((last - 30) * 1000, (last + 1) * 1000);
      span.value = Math.max(60, Math.min(BACK_MOST_S, Math.ceil((ago + 60) / 60) * 60));
      made.redraw();
    });
    return () => made.close();
  }, []);
  const more: Detail = { stream: { span: span.value, px: 0 } };
  useTopics(span.value > 0 ? ["stream"] : [], span.value > 0 ? more : undefined);

  const use = (change: (stage: Stage) => void) => () => {
    if (!stage.current) return;
    change(stage.current);
    stage.current.redraw();
  };
  return (
    <div class="stream">
      <div class="stream-box">
        <canvas
          ref={canvas}
          tabIndex={0}
          role="application"
          aria-roledescription="task stream"
          aria-label="Task stream. Arrows move, plus and minus zoom, 0 shows all, F follows the present, up and down and Shift with arrows choose a task, Enter opens it. The table holds the same."
        />
        {tip.value && <Tooltip tip={tip.value} />}
        <span class="sr" aria-live="polite">
          {said.value}
        </span>
      </div>
      <div class="stream-foot">
        {props.children}
        <div class="stream-tools" role="group" aria-label="View of the task stream">
          <button
            type="button"
            title="Zoom in (+)"
            aria-label="Zoom in"
            onClick={use((s) => s.picture.window.zoom(0.6, 0.5))}
          >
            +
          </button>
          <button
            type="button"
            title="Zoom out (-)"
            aria-label="Zoom out"
            onClick={use((s) => s.picture.window.zoom(1 / 0.6, 0.5))}
          >
            −
          </button>
          <button type="button" title="All that is held (0)" onClick={use((s) => fit(s.picture, s.source.live))}>
            All
          </button>
          {!offline.value && (
            <button
              type="button"
              title="Follow the present (F)"
              aria-pressed={live.value}
              onClick={use((s) => follow(s.picture))}
            >
              Live
            </button>
          )}
        </div>
      </div>
    </div>
  );
}

function Tooltip({ tip }: { tip: Tip }) {
  const { hit, named } = tip;
  const names = rows("names");
  const lane = rows("lanes").get(String(hit.lane));
  const prefix = named?.prefix || str(names.get(String(hit.prefix)), "name", "other");
  const style = { left: `${tip.x}px`, top: `${tip.y}px` };
  const side = tip.x > 420 ? " left" : "";
  return (
    <div class={`tip${side}${tip.y > 160 ? " above" : ""}`} style={style} role="presentation">
      <strong>{named?.key || prefix}</strong>
      <span>
        {actionName(hit)} · {seconds(hit.duration / 1000)}
      </span>
      <span class="muted">
        {clock(hit.start / 1000, true)} → {clock((hit.start + hit.duration) / 1000, true)}
      </span>
      <span class="muted">
        {str(lane, "name") || shortAddress(str(lane, "worker"))} · thread {count(lane?.n ?? 0)}
      </span>
      {hit.merged > 1 && <span class="muted">{many(hit.merged, "task")} drawn as one; zoom in to see them</span>}
    </div>
  );
}
