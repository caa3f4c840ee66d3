// A statistical profile as a flame graph: places every frame, merges what is too narrow to be seen. Pure.

/** One node of a profile. */
export interface Frame {
  readonly name: string;
  readonly file: string;
  readonly line: number;
  readonly value: number;
  readonly children: readonly Frame[];
}

/** A frame with its place: `left` and `width` are shares of the whole, `depth` counts from the root. */
export interface Slab {
  readonly frame: Frame;
  readonly left: number;
  readonly width: number;
  readonly depth: number;
  readonly parent: Slab | null;
}

const DEPTH_MAX = 400;
const SLABS_MAX = 20_000;

/** Reads a profile out of any JSON. */
export function frameOf(value: unknown, depth = 0): Frame {
  const from = (value !== null && typeof value === "object" ? value : {}) as Record<string, unknown>;
  const kids =
    Array.isArray(from.children) && depth < DEPTH_MAX ? from.children.map((child) => frameOf(child, depth + 1)) : [];
  return {
    name: typeof from.name === "string" ? from.name : "?",
    file: typeof from.file === "string" ? from.file : "",
    line: typeof from.line === "number" ? from.line : 0,
    value:
      typeof from.value === "number" && from.value > 0 ? from.value : kids.reduce((sum, child) => sum + child.value, 0),
    children: kids.sort((a, b) => b.value - a.value),
  };
}

/** Places all frames that are at least `least` of the whole wide. */
export function place(root: Frame, least: number): Slab[] {
  const out: Slab[] = [];
  const visit = (frame: Frame, left: number, width: number, depth: number, parent: Slab | null): void => {
    if (width < least || out.length >= SLABS_MAX) return;
    const slab: Slab = { frame, left, width, depth, parent };
    out.push(slab);
    let at = left;
    for (const child of frame.children) {
      const share = root.value > 0 ? child.value / root.value : 0;
      visit(child, at, share, depth + 1, slab);
      at += share;
    }
  };
  visit(root, 0, 1, 0, null);
  return out;
}

/** Time in a frame itself, not in what it calls. */
export function own(frame: Frame): number {
  return Math.max(0, frame.value - frame.children.reduce((sum, child) => sum + child.value, 0));
}

/** One line per function: own time and time in all, summed over where it is called. */
export interface Spot {
  readonly id: string;
  readonly name: string;
  readonly file: string;
  own: number;
  all: number;
}

/** The functions by the time spent in them. A function that calls itself counts once. */
export function hotSpots(root: Frame): Spot[] {
  const spots = new Map<string, Spot>();
  const visit = (frame: Frame, above: ReadonlySet<string>): void => {
    const id = `${frame.file}:${frame.name}`;
    const spot = spots.get(id) ?? { id, name: frame.name, file: frame.file, own: 0, all: 0 };
    spots.set(id, spot);
    spot.own += own(frame);
    if (!above.has(id)) spot.all += frame.value;
    const below = new Set(above).add(id);
    for (const child of frame.children) visit(child, below);
  };
  for (const child of root.children) visit(child, new Set());
  return [...spots.values()].sort((a, b) => b.own - a.own);
}

/** A steady colour number for a file: frames of one library look alike. */
export function tint(file: string): number {
  const library = /site-packages\/([^/]+)/.exec(file)?.[1] ?? file.split("/").slice(-2).join("/");
  let hash = 2_166_136_261;
  for (let at = 0; at < library.length; at += 1) hash = Math.imul(hash ^ library.charCodeAt(at), 16_777_619);
  return (hash >>> 0) % 10;
}
