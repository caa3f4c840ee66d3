// Draws lanes into pixels by hand. A lane looks the same on every line of its height, so each is worked out once as a
// strip of colours (every pixel the mean of what lies under it) and copied down: cheap without any graphics card.
import type { Lane, Track } from "./model";

/** More rectangles per pixel than this are sampled: the eye cannot tell, and the time stays bounded. */
const DENSE = 6;

/** What to draw, and in which colours. */
export interface Paint {
  /** Left edge. Unit: ms since the epoch. */
  readonly from: number;
  /** Unit: pixels per ms. */
  readonly scale: number;
  readonly width: number;
  /** Colour (ABGR) per prefix number; 0 leaves it out. */
  readonly prefixes: Uint32Array;
  /** Colour (ABGR) per action; entry 0 is not used. 0 leaves it out. */
  readonly actions: Uint32Array;
  readonly background: number;
}

/** Room for one strip: sums of colour and of cover per pixel. Kept between frames. */
export class Strip {
  private red = new Float32Array(0);
  private green = new Float32Array(0);
  private blue = new Float32Array(0);
  private cover = new Float32Array(0);
  pixels = new Uint32Array(0);

  /** Works out one track. Answers false if nothing is in it: the caller may skip the copying. */
  draw(track: Track, paint: Paint): boolean {
    this.fit(paint.width);
    const span = paint.width / paint.scale;
    let row = track.firstFrom(paint.from - track.longest);
    const end = track.firstFrom(paint.from + span);
    if (row >= end) return false;
    this.clear();
    const step = Math.max(1, Math.floor((end - row) / (paint.width * DENSE)));
    let any = false;
    for (; row < end; row += step) any = this.one(track, row, step, paint) || any;
    if (any) this.finish(paint);
    return any;
  }

  private fit(width: number): void {
    if (this.pixels.length === width) return;
    this.red = new Float32Array(width);
    this.green = new Float32Array(width);
    this.blue = new Float32Array(width);
    this.cover = new Float32Array(width);
    this.pixels = new Uint32Array(width);
  }

  private clear(): void {
    this.red.fill(0);
    this.green.fill(0);
    this.blue.fill(0);
    this.cover.fill(0);
  }

  private one(track: Track, row: number, weight: number, paint: Paint): boolean {
    const action = track.action[row] as number;
    const own = action === 0 ? paint.prefixes[track.prefix[row] as number] : paint.actions[action];
    if (own === undefined || own === 0) return false;
    const left = ((track.start[row] as number) - paint.from) * paint.scale;
    let right = left + (track.duration[row] as number) * paint.scale;
    // Neighbours that are wide enough to be told apart are kept apart.
    if (right - left > 4) right -= 1;
    if (right < 0 || left >= paint.width) return false;
    const first = left < 0 ? 0 : left | 0;
    // A failure is never too small to be seen: it gets a whole pixel.
    const last = Math.min(paint.width - 1, right | 0);
    const red = own & 255;
    const green = (own >>> 8) & 255;
    const blue = (own >>> 16) & 255;
    for (let x = first; x <= last; x += 1) {
      let share = Math.min(right, x + 1) - Math.max(left, x);
      if (share < 0.04) share = 0.04;
      if (action === 6) share = Math.max(share, 1);
      share *= weight;
      this.red[x] = (this.red[x] as number) + red * share;
      this.green[x] = (this.green[x] as number) + green * share;
      this.blue[x] = (this.blue[x] as number) + blue * share;
      this.cover[x] = (this.cover[x] as number) + share;
    }
    return true;
  }

  private finish(paint: Paint): void {
    const backRed = paint.background & 255;
    const backGreen = (paint.background >>> 8) & 255;
    const backBlue = (paint.background >>> 16) & 255;
    for (let x = 0; x < paint.width; x += 1) {
      const cover = this.cover[x] as number;
      if (cover === 0) {
        this.pixels[x] = 0;
        continue;
      }
      const full = cover >= 1 ? 1 : 0.25 + 0.75 * cover;
      const rest = 1 - full;
      const red = ((this.red[x] as number) / cover) * full + backRed * rest;
      const green = ((this.green[x] as number) / cover) * full + backGreen * rest;
      const blue = ((this.blue[x] as number) / cover) * full + backBlue * rest;
      this.pixels[x] = ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
    }
  }
}

/** Where a lane's lines lie in the picture. */
export interface Band {
  readonly lane: Lane;
  readonly top: number;
  readonly height: number;
}

/** Paints all bands into `image`, a picture of `paint.width` columns. */
export function paintBands(
  image: Uint32Array,
  height: number,
  bands: readonly Band[],
  paint: Paint,
  strip: Strip,
): void {
  image.fill(0);
  for (const band of bands) {
    const gap = band.height > 5 ? 1 : 0;
    const bottom = Math.min(height, band.top + band.height - gap);
    const top = Math.max(0, band.top);
    if (bottom <= top) continue;
    if (strip.draw(band.lane.tasks, paint)) copyDown(image, paint.width, top, bottom, strip.pixels, true);
    // The other track covers the lowest two fifths, so that both can be seen.
    const low = Math.max(top, Math.floor(bottom - band.height * 0.4));
    if (strip.draw(band.lane.other, paint)) copyDown(image, paint.width, low, bottom, strip.pixels, false);
  }
}

function copyDown(
  image: Uint32Array,
  width: number,
  top: number,
  bottom: number,
  strip: Uint32Array,
  whole: boolean,
): void {
  if (whole) {
    for (let y = top; y < bottom; y += 1) image.set(strip, y * width);
    return;
  }
  for (let x = 0; x < width; x += 1) {
    const colour = strip[x] as number;
    if (colour === 0) continue;
    for (let y = top; y < bottom; y += 1) image[y * width + x] = colour;
  }
}
