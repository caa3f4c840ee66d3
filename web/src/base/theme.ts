// Light or dark: as the system says, unless the reader chose. Canvases read their colours from here.
import { computed, effect, signal } from "@preact/signals";
import { recall, remember } from "./storage";

export type Choice = "system" | "light" | "dark";

/** What the reader chose. */
export const choice = signal<Choice>("system");
const systemDark = signal(false);

/** True while the page is dark. */
export const dark = computed(() => (choice.value === "system" ? systemDark.value : choice.value === "dark"));

/** True where the reader asked the system for less movement. */
export const calm = signal(false);

/** Follows the system and applies the remembered choice. Called once, before the first paint. */
export function startTheme(): void {
  const kept = recall("theme");
  if (kept === "light" || kept === "dark") choice.value = kept;
  follow("(prefers-color-scheme: dark)", (on) => (systemDark.value = on));
  follow("(prefers-reduced-motion: reduce)", (on) => (calm.value = on));
  effect(() => {
    document.documentElement.dataset.theme = dark.value ? "dark" : "light";
  });
}

function follow(query: string, tell: (on: boolean) => void): void {
  const media = window.matchMedia(query);
  tell(media.matches);
  media.addEventListener("change", (event) => tell(event.matches));
}

/** Chooses and remembers. */
export function chooseTheme(next: Choice): void {
  choice.value = next;
  remember("theme", next === "system" ? null : next);
}
