// Requests of the page. All relative to the page's base; errors carry what the server said and what to do.
import { signal } from "@preact/signals";
import { asRow, str } from "./rows";
import { reach } from "./url";

/** A request that got no good answer. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly remedy: string,
  ) {
    super(message);
  }
}

/** True after an answer 401: the shell asks for a token. */
export const needsToken = signal(false);

// Kept for this tab's life only: a token in storage would outlive the wish to be signed in.
let token: string | null = null;

/** The token sent with every request from now on. */
export function signIn(text: string): void {
  token = text;
  needsToken.value = false;
}

async function send(path: string, init: RequestInit): Promise<Response> {
  const headers = new Headers(init.headers);
  if (token) headers.set("Authorization", `Bearer ${token}`);
  let answer: Response;
  try {
    answer = await fetch(reach(path), { ...init, headers, cache: "no-store" });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Refusal(0, "the server does not answer", "See whether rask still runs; the page retries by itself.");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) needsToken.value = true;
  const said = asRow(await answer.json().catch(() => null));
  throw new Refusal(answer.status, str(said, "error") || `the server answered ${answer.status}`, str(said, "remedy"));
}

/** GET of JSON. */
export async function getJson(path: string, abort?: AbortSignal): Promise<unknown> {
  return (await send(path, { signal: abort ?? null })).json();
}

/** GET of bytes. */
export async function getBytes(path: string, abort?: AbortSignal): Promise<ArrayBuffer> {
  return (await send(path, { signal: abort ?? null })).arrayBuffer();
}

/** GET of text. */
export async function getText(path: string, abort?: AbortSignal): Promise<string> {
  return (await send(path, { signal: abort ?? null })).text();
}

/** POST, DELETE and the like. An empty answer is null. */
export async function act(method: string, path: string, body?: unknown): Promise<unknown> {
  const init: RequestInit = { method };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "Content-Type": "application/json" };
  }
  const text = await (await send(path, init)).text();
  if (text === "") return null;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

/** A path with a query; empty and missing values are left out. */
export function query(path: string, values: Record<string, string | number | null | undefined>): string {
  const parts = Object.entries(values)
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`);
  return parts.length === 0 ? path : `${path}?${parts.join("&")}`;
}
