// What the parts of the page that are on screen subscribe to, added up.
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";

/** Details of a subscription; the last part that asks wins. */
export interface Detail {
  stream?: { span: number; px: number };
  events?: { topic: string };
  graph?: { max: number };
  every?: number;
}

const counts = new Map<string, number>();
const details = new Map<symbol, Detail>();

/** Changes with every change of the subscription. */
export const version = signal(0);

/** The topics wanted now. `overview` always: the line at the top lives from it. */
export function topicsWanted(): Set<string> {
  return new Set(["overview", ...counts.keys()]);
}

/** All details merged. */
export function detail(): Detail {
  return Object.assign({}, ...details.values()) as Detail;
}

/** While the component is shown, the feed brings these topics. */
export function useTopics(names: readonly string[], more?: Detail): void {
  const key = names.join(" ");
  const moreText = JSON.stringify(more ?? null);
  useEffect(() => {
    const mine = Symbol(key);
    const wanted = key.split(" ").filter(Boolean);
    for (const name of wanted) counts.set(name, (counts.get(name) ?? 0) + 1);
    const asked = JSON.parse(moreText) as Detail | null;
    if (asked) details.set(mine, asked);
    version.value += 1;
    return () => {
      for (const name of wanted) {
        const left = (counts.get(name) ?? 1) - 1;
        if (left > 0) counts.set(name, left);
        else counts.delete(name);
      }
      details.delete(mine);
      version.value += 1;
    };
  }, [key, moreText]);
}
