// Colours of data. Ten hues that differ in lightness too, so that they stay apart without red or green; a prefix keeps
// its colour (the scheduler numbers them). What is not computing is told by shape as well: such bars are low.

const LIGHT = [
  "#2f6fb0",
  "#1b9e77",
  "#c07f00",
  "#8e5bb5",
  "#3aa3cc",
  "#72861a",
  "#b8577f",
  "#5a6b7b",
  "#0f7d8c",
  "#a5673f",
];
const DARK = [
  "#5b9fe3",
  "#35c496",
  "#e6b23c",
  "#b78ae0",
  "#7fd3f2",
  "#a9c04a",
  "#e086ab",
  "#95a7b8",
  "#3fb9c9",
  "#cf9468",
];

/** Prefix colours, for one theme. */
export function hues(isDark: boolean): readonly string[] {
  return isDark ? DARK : LIGHT;
}

/** The colour of a prefix by the number that the scheduler gave it. */
export function hue(index: number, isDark: boolean): string {
  const all = hues(isDark);
  return all[((index % all.length) + all.length) % all.length] ?? "#888888";
}

/** Actions in the task stream, by their code in the feed. */
export const ACTIONS = ["compute", "transfer", "disk-read", "disk-write", "deserialize", "other", "failed"] as const;
export const FAILED = 6;

const ACTION_LIGHT = ["", "#d1442f", "#d98e04", "#b06f00", "#7b8794", "#9aa5b1", "#14181d"];
const ACTION_DARK = ["", "#ff7a66", "#ffc14d", "#d99a2b", "#9aa7b4", "#7b8794", "#ffffff"];

/** The colour of an action; compute (0) has none of its own, it takes its prefix's. */
export function actionHue(action: number, isDark: boolean): string {
  return (isDark ? ACTION_DARK : ACTION_LIGHT)[action] ?? "#888888";
}

const STATE_LIGHT: Record<string, string> = {
  released: "#aab4bf",
  waiting: "#7b8794",
  queued: "#c9b458",
  "no-worker": "#d98e04",
  processing: "#1b9e77",
  memory: "#2f6fb0",
  erred: "#14181d",
  forgotten: "#d5dbe1",
};
const STATE_DARK: Record<string, string> = {
  released: "#5a6673",
  waiting: "#8593a1",
  queued: "#d9c46a",
  "no-worker": "#ffc14d",
  processing: "#35c496",
  memory: "#5b9fe3",
  erred: "#ffffff",
  forgotten: "#39424c",
};

/** The colour of a task state. */
export function stateHue(state: string, isDark: boolean): string {
  return (isDark ? STATE_DARK : STATE_LIGHT)[state.replace("_", "-")] ?? "#888888";
}

/** `#rrggbb` as the 32 bits of one pixel in an ImageData (little endian: ABGR). */
export function pixel(colour: string): number {
  const value = Number.parseInt(colour.slice(1), 16);
  const red = (value >> 16) & 255;
  const green = (value >> 8) & 255;
  const blue = value & 255;
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}
