// What the page knows of the cluster. One signal per topic, so that a message redraws only what shows that topic.
import { batch, signal, type Signal } from "@preact/signals";
import { asRow, list, num, str, type Row, type Rows } from "../base/rows";
import type { Block } from "./block";
import { apply, changeOf } from "./delta";

const EMPTY: Rows = new Map();
const topics = new Map<string, Signal<Rows>>();
const seen = signal<ReadonlySet<string>>(new Set());

/** Where the feed stands, and when the scheduler last spoke (its clock, seconds). */
export const epoch = { id: "", seq: 0 };
export const serverTime = signal(0);
/** True while this viewer is too slow and gets summaries only. */
export const summary = signal(false);
/** Why the scheduler ends, if it said so. */
export const closing = signal<string | null>(null);
/** Difference of the scheduler's clock to ours. Unit: seconds. */
export const skew = { seconds: 0 };

type BlockListener = (block: Block) => void;
const listeners = new Set<BlockListener>();

function signalOf(name: string): Signal<Rows> {
  let found = topics.get(name);
  if (!found) {
    found = signal(EMPTY);
    topics.set(name, found);
  }
  return found;
}

/** The rows of a topic. Read inside a component, it redraws with every change. */
export function rows(name: string): Rows {
  return signalOf(name).value;
}

/** The rows without taking part in their changes. */
export function peek(name: string): Rows {
  return signalOf(name).peek();
}

/** Whether the topic has been heard of: before that, "empty" would be a guess. */
export function known(name: string): boolean {
  return seen.value.has(name);
}

/** Whether this topic's rows are at hand, so that deltas make sense. `stream` brings its rows as `lanes` and `names`. */
export function holds(name: string): boolean {
  return name === "stream" ? seen.peek().has("lanes") : seen.peek().has(name);
}

/** The one row of `overview`. */
export function overview(): Row {
  return rows("overview").get("now") ?? {};
}

/** True in a saved report: nothing is connected, nothing can be asked. */
export const offline = signal(false);
let kept: Block | null = null;

/** Makes this page a report of `block`: it is shown by whatever task stream comes. */
export function keepBlock(block: Block | null): void {
  offline.value = true;
  kept = block;
}

/** Calls for every block of the task stream until the answer is called. */
export function onBlock(listener: BlockListener): () => void {
  listeners.add(listener);
  if (kept) listener(kept);
  return () => listeners.delete(listener);
}

/** Takes one message of JSON. */
export function receive(message: unknown): void {
  const from = asRow(message);
  batch(() => {
    epoch.id = str(from, "epoch", epoch.id);
    epoch.seq = num(from, "seq", epoch.seq);
    const time = num(from, "t");
    if (time > 0) {
      serverTime.value = time;
      skew.seconds = time - Date.now() / 1000;
    }
    summary.value = from.summary === true;
    closing.value = typeof from.closing === "string" ? from.closing : null;
    const heard = Object.entries(asRow(from.topics));
    for (const [name, change] of heard) {
      const target = signalOf(name);
      target.value = apply(target.peek(), changeOf(change));
    }
    // A topic that this scheduler does not know stays empty: nobody should wait for it.
    const names = [...heard.map(([name]) => name), ...list(from, "unknown").map(String)];
    if (names.some((name) => !seen.peek().has(name))) seen.value = new Set([...seen.peek(), ...names]);
  });
}

/** Takes one block of the task stream. */
export function receiveBlock(block: Block): void {
  for (const listener of listeners) listener(block);
}

/** Forgets topics that nobody shows any more: a page kept open for days must not grow. */
export function forgetAllBut(wanted: ReadonlySet<string>): void {
  if (wanted.has("stream")) wanted = new Set([...wanted, "lanes", "names"]);
  for (const [name, held] of topics) {
    if (!wanted.has(name) && held.peek().size > 0) held.value = EMPTY;
  }
  if ([...seen.peek()].some((name) => !wanted.has(name))) {
    const left = [...seen.peek()].filter((name) => wanted.has(name));
    seen.value = new Set(left);
  }
}
