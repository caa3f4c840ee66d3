// Where the page is. Everything is relative to `document.baseURI`: no path of ours begins with a slash, so any prefix
// (a proxy's, a cluster's) works.
import { signal } from "@preact/signals";

/** The part of the address below the base, and its query. */
export interface Place {
  readonly page: string;
  readonly query: URLSearchParams;
}

/** The base: the folder that `status` is in. A `<base>` written by the server decides, else the page's own folder. */
export function base(): URL {
  return new URL(".", document.baseURI);
}

/** An absolute address for a path relative to the base. */
export function absolute(path: string): string {
  return new URL(path, base()).href;
}

/** In a frame that is sandboxed without an origin. There only the ticket in the page's own HTML lets it read. */
export const isBoxed = typeof window !== "undefined" && window.origin === "null";

/** Where to ask for `path`: its address, with the ticket where that is needed. */
export function reach(path: string): string {
  const address = new URL(path, base());
  const ticket = isBoxed ? document.querySelector<HTMLMetaElement>('meta[name="rask-ticket"]')?.content : undefined;
  if (ticket !== undefined) address.searchParams.set("ticket", ticket);
  return address.href;
}

/** The feed's address with the WebSocket scheme. */
export function socketAddress(): string {
  return reach("feed").replace(/^http/, "ws");
}

const DEEP: readonly [RegExp, string, string][] = [
  [/^info\/worker\/(.+)\.html$/, "worker", "address"],
  [/^info\/task\/(.+)\.html$/, "task", "key"],
  [/^info\/logs\/(.+)\.html$/, "worker", "address"],
  [/^info\/call-stacks\/(.+)\.html$/, "worker", "address"],
  [/^info\/call-stack\/(.+)\.html$/, "task", "key"],
];
const DASK: Record<string, string> = {
  "info/main/workers.html": "workers",
  "info/main/exceptions.html": "exceptions",
  "info/main/logs.html": "logs",
  "profile-server": "profile",
  "": "",
};

/** What an address below the base means; Dask's deep names become ours. */
export function placeOf(below: string, search: string): Place {
  const query = new URLSearchParams(search);
  for (const [pattern, page, name] of DEEP) {
    const found = pattern.exec(below);
    if (found?.[1] === undefined) continue;
    query.set(name, decodeLoosely(found[1]));
    if (below.startsWith("info/logs")) query.set("tab", "logs");
    if (below.startsWith("info/call-stacks")) query.set("tab", "stacks");
    return { page, query };
  }
  return { page: DASK[below] ?? below.replace(/\.html$/, ""), query };
}

function decodeLoosely(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function here(): Place {
  const root = base().pathname;
  const path = window.location.pathname;
  const below = path.startsWith(root) ? path.slice(root.length) : (path.split("/").pop() ?? "");
  return placeOf(below, window.location.search);
}

/** The page shown now. */
export const place = signal<Place>({ page: "", query: new URLSearchParams() });

/** The appliance's page: the part after `#/`. */
export const hash = signal("");

/** Reads the address and follows the browser's back and forward. */
export function startRouter(): void {
  const read = (): void => {
    place.value = here();
    hash.value = window.location.hash.replace(/^#\/?/, "");
  };
  read();
  window.addEventListener("popstate", read);
  window.addEventListener("hashchange", read);
  document.addEventListener("click", onClick);
}

/** Goes to a page below the base without loading anew. */
export function go(path: string): void {
  const address = absolute(path);
  try {
    window.history.pushState(null, "", address);
  } catch {
    // A sandboxed frame may not change its address: load the page instead.
    window.location.assign(address);
    return;
  }
  place.value = here();
  window.scrollTo(0, 0);
}

/** Changes the query of this page in place, e.g. a filter, so that the address can be shared. */
export function setQuery(changes: Record<string, string | null>): void {
  const query = new URLSearchParams(place.value.query);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  place.value = { page: place.value.page, query };
  try {
    window.history.replaceState(null, "", absolute(place.value.page + (text === "" ? "" : `?${text}`)));
  } catch {
    // Sandboxed: the filter holds, only the address does not show it.
  }
}

/** Plain clicks on links marked `data-go` stay inside the page. */
function onClick(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey)
    return;
  const target = event.target instanceof Element ? event.target.closest("a[data-go]") : null;
  const path = target?.getAttribute("href");
  if (!target || path === null || path === undefined || target.hasAttribute("target")) return;
  event.preventDefault();
  go(path);
}
