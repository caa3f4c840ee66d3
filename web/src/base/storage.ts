// What the browser remembers for us. In a sandboxed frame even touching localStorage throws: then nothing is remembered.

/** A remembered text, or null. */
export function recall(name: string): string | null {
  try {
    return window.localStorage.getItem(`rask.${name}`);
  } catch {
    return null;
  }
}

/** Remembers a text; `null` forgets it. */
export function remember(name: string, value: string | null): void {
  try {
    if (value === null) window.localStorage.removeItem(`rask.${name}`);
    else window.localStorage.setItem(`rask.${name}`, value);
  } catch {
    // Not remembered; the page works the same until it is closed.
  }
}
