// Where the rectangles come from: the live feed, and for what it does not hold finely enough a window asked for by GET.
import { getBytes, getJson, query } from "../base/http";
import { asRow, num, str } from "../base/rows";
import { decodeBlock } from "../feed/block";
import { offline, onBlock } from "../feed/store";
import { StreamModel, type Hit } from "./model";

/** Most keys remembered for hovering. */
const KEYS_MAX = 500;
const ASK_AFTER_MS = 150;

/** What `api/rect` says of one rectangle. */
export interface Named {
  readonly key: string;
  readonly prefix: string;
  readonly worker: string;
}

export class Source {
  readonly live = new StreamModel();
  private fine: StreamModel | null = null;
  private fineFrom = 0;
  private fineTo = 0;
  private finePx = 0;
  private bounds = { first: 0, last: 0 };
  private timer: ReturnType<typeof setTimeout> | undefined;
  private asking: AbortController | null = null;
  private readonly keys = new Map<number, Named>();
  private readonly stop: () => void;

  constructor(private readonly news: () => void) {
    this.stop = onBlock((block) => {
      this.live.add(block);
      this.news();
    });
  }

  /** Ends everything. */
  close(): void {
    this.stop();
    clearTimeout(this.timer);
    this.asking?.abort();
  }

  /** When the scheduler's record begins and ends. Unit: s since the epoch; 0 for never. */
  async askBounds(): Promise<{ first: number; last: number }> {
    if (offline.value) return this.bounds;
    try {
      const said = asRow(await getJson("api/stream/bounds"));
      this.bounds = { first: num(said, "first"), last: num(said, "last") };
    } catch {
      // Without it the page shows what the feed brings.
    }
    return this.bounds;
  }

  /** The model to draw for a span, and a request for a better one if this is too coarse or too short. Unit: ms. */
  modelFor(from: number, to: number, px: number, isLive: boolean): StreamModel {
    if (isLive || offline.value) return this.live;
    const better = this.fine && from >= this.fineFrom && to <= this.fineTo && this.finePx <= px * 2;
    if (better && this.fine) return this.fine;
    const coarse = this.live.px > px * 2;
    const early =
      from < this.live.first - 1 && (this.bounds.first === 0 || this.bounds.first * 1000 < this.live.first - 1);
    if (coarse || early) this.ask(from, to, px);
    return this.live;
  }

  private ask(from: number, to: number, px: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.fetch(from, to, px), ASK_AFTER_MS);
  }

  private async fetch(from: number, to: number, px: number): Promise<void> {
    this.asking?.abort();
    this.asking = new AbortController();
    const room = (to - from) / 2;
    const ask = query("api/stream", { from: (from - room) / 1000, to: (to + room) / 1000, px });
    try {
      const block = decodeBlock(await getBytes(ask, this.asking.signal));
      if (!block) return;
      const model = new StreamModel();
      model.add(block);
      this.fine = model;
      this.fineFrom = from - room;
      this.fineTo = to + room;
      this.finePx = block.thinned ? Math.max(px, block.px) : 0;
      this.news();
    } catch {
      // The coarser picture stays.
    }
  }

  /** Key, prefix and worker of a rectangle; asked once. Null if the server has dropped it. */
  async name(hit: Hit): Promise<Named | null> {
    const held = this.keys.get(hit.id);
    if (held || offline.value) return held ?? null;
    try {
      const said = asRow(await getJson(query("api/rect", { id: hit.id })));
      const named = { key: str(said, "key"), prefix: str(said, "prefix"), worker: str(said, "worker") };
      if (this.keys.size >= KEYS_MAX) this.keys.delete(this.keys.keys().next().value as number);
      this.keys.set(hit.id, named);
      return named;
    } catch {
      return null;
    }
  }

  /** What is already known of a rectangle. */
  nameAtHand(hit: Hit): Named | null {
    return this.keys.get(hit.id) ?? null;
  }
}
