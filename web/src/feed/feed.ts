// The connection to the feed: WebSocket first; where a proxy breaks that, server-sent events, then polling. Rests while
// the tab is hidden, takes up again where it stopped, says in `link` how it is.
import { effect, signal } from "@preact/signals";
import { needsToken } from "../base/http";
import { num, rowsOf, str, asRow } from "../base/rows";
import { isBoxed, reach, socketAddress } from "../base/url";
import { decodeBlock, fromBase64, withKind } from "./block";
import { epoch, forgetAllBut, holds, receive, receiveBlock } from "./store";
import { detail, topicsWanted, version } from "./subscription";

export type Link = "connecting" | "live" | "paused" | "lost";
export type Way = "socket" | "events" | "poll";

/** How the connection is. */
export const link = signal<Link>("connecting");
/** How the news come. */
export const way = signal<Way>("socket");

const RETRY_FIRST_MS = 250;
const RETRY_MOST_MS = 5_000;
/** Two keep-alives missed: the connection is dead even if nobody said so. */
const SILENCE_MS = 25_000;
/** A tab that is only glanced away from keeps its feed this long. */
const HIDE_AFTER_MS = 5_000;
/** A page without an origin does not load itself anew more often than this. */
const BOXED_LEAST_MS = 30_000;
/** Sockets that fail this often without ever opening: the way is blocked, try the next. */
const TRIES_PER_WAY = 3;

interface Carrier {
  /** Sends the subscription anew. */
  subscribe(): void;
  close(): void;
}

let carrier: Carrier | null = null;
let tries = 0;
let retry: ReturnType<typeof setTimeout> | undefined;
let watchdog: ReturnType<typeof setTimeout> | undefined;
let hidden = false;
let streamAfter = 0;

/** Connects and keeps connected for the life of the page. */
export function startFeed(): void {
  effect(() => {
    void version.value;
    // Several parts mount in one go: tell the server once.
    queueMicrotask(() => {
      if (carrier && !hidden) carrier.subscribe();
      forgetAllBut(topicsWanted());
    });
  });
  let timer: ReturnType<typeof setTimeout> | undefined;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(rest, HIDE_AFTER_MS);
    else wake();
  });
  connect();
}

/** Nothing comes while nobody looks: no work for the scheduler, no growth here. */
function rest(): void {
  hidden = true;
  clearTimeout(retry);
  clearTimeout(watchdog);
  carrier?.close();
  carrier = null;
  link.value = "paused";
}

function wake(): void {
  if (!hidden) return;
  hidden = false;
  tries = 0;
  connect();
}

function subscription(resume: boolean): string {
  const want = [...topicsWanted()];
  // Deltas are worth nothing for a topic that is not held, so one new topic means all in full.
  const held = want.every(holds);
  const since = resume && held && epoch.id !== "" ? { epoch: epoch.id, since: epoch.seq } : {};
  return JSON.stringify({ v: 1, want, ...since, ...detail() });
}

function connect(): void {
  clearTimeout(retry);
  carrier?.close();
  carrier = way.value === "socket" ? bySocket() : way.value === "events" ? byEvents() : byPolling();
}

function heard(): void {
  tries = 0;
  if (link.value !== "live") link.value = "live";
  clearTimeout(watchdog);
  watchdog = setTimeout(lost, SILENCE_MS);
}

function lost(): void {
  if (hidden) return;
  clearTimeout(watchdog);
  carrier?.close();
  carrier = null;
  link.value = "lost";
  tries += 1;
  if (tries % TRIES_PER_WAY === 0) void otherWay();
  clearTimeout(retry);
  retry = setTimeout(connect, Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** Math.min(tries - 1, 8)));
}

/** Changes the way of transport if plain requests do get through: then it is the way that is blocked, not the server. */
async function otherWay(): Promise<void> {
  const answer = await fetch(reach("health"), { cache: "no-store" }).catch(() => null);
  if (answer) needsToken.value = answer.status === 401;
  if (!answer && isBoxed) await renewTicket();
  if (!answer?.ok || link.value === "live") return;
  way.value = way.value === "socket" ? "events" : way.value === "events" ? "poll" : "socket";
}

/** A ticket may have run out, or its scheduler was replaced: the page's HTML has a new one, if somebody serves it. */
async function renewTicket(): Promise<void> {
  const alive = await fetch(reach("health"), { cache: "no-store", mode: "no-cors" }).catch(() => null);
  if (alive && performance.now() > BOXED_LEAST_MS) window.location.reload();
}

const decoder = new TextDecoder();

function take(buffer: ArrayBuffer): void {
  heard();
  if (buffer.byteLength === 0) return;
  const kind = new Uint8Array(buffer, 0, 1)[0];
  if (kind === 1) receive(JSON.parse(decoder.decode(new Uint8Array(buffer, 1))));
  if (kind === 2) takeBlock(buffer);
}

function takeBlock(buffer: ArrayBuffer): void {
  const block = decodeBlock(buffer);
  if (!block) return;
  streamAfter = block.next;
  receiveBlock(block);
}

function bySocket(): Carrier {
  let socket: WebSocket;
  try {
    socket = new WebSocket(socketAddress());
  } catch {
    queueMicrotask(lost);
    return { subscribe: () => undefined, close: () => undefined };
  }
  socket.binaryType = "arraybuffer";
  socket.onopen = () => socket.send(subscription(true));
  socket.onmessage = (event) => {
    if (event.data instanceof ArrayBuffer) take(event.data);
  };
  socket.onclose = lost;
  const close = (): void => {
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  };
  return { close, subscribe: () => socket.readyState === WebSocket.OPEN && socket.send(subscription(false)) };
}

function byEvents(): Carrier {
  let source: EventSource | null = null;
  const open = (resume: boolean): void => {
    try {
      source = new EventSource(reach(`feed/events?q=${encodeURIComponent(subscription(resume))}`));
    } catch {
      queueMicrotask(lost);
      return;
    }
    source.addEventListener("json", (event) => {
      heard();
      receive(JSON.parse(String((event as MessageEvent).data)));
    });
    source.addEventListener("stream", (event) => {
      heard();
      takeBlock(withKind(fromBase64(String((event as MessageEvent).data))));
    });
    source.onerror = lost;
  };
  open(true);
  const close = (): void => {
    if (source) source.onerror = null;
    source?.close();
  };
  return {
    close,
    subscribe: () => {
      close();
      open(true);
    },
  };
}

function byPolling(): Carrier {
  const stop = new AbortController();
  const ask = async (resume: boolean): Promise<void> => {
    const body = JSON.parse(subscription(resume)) as Record<string, unknown>;
    if (body.stream) body.stream = { ...asRow(body.stream), after: streamAfter };
    const answer = await fetch(reach(`feed/poll?q=${encodeURIComponent(JSON.stringify(body))}`), {
      signal: stop.signal,
      cache: "no-store",
    });
    if (!answer.ok) throw new Error(`answered ${answer.status}`);
    heard();
    for (const message of rowsOf(asRow(await answer.json()), "messages")) {
      if (message.json) receive(message.json);
      else takeBlock(withKind(fromBase64(str(message, "stream"))));
    }
  };
  const run = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      try {
        await ask(true);
      } catch {
        if (!stop.signal.aborted) lost();
        return;
      }
      await new Promise((done) => setTimeout(done, num({ every: detail().every ?? 500 }, "every", 500)));
    }
  };
  void run();
  return { close: () => stop.abort(), subscribe: () => undefined };
}
