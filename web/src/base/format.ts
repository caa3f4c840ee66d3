// Numbers and times as people read them. Widths stay steady: figures are tabular, units come last.

const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const NONE = "–";

function isNumber(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

/** Three significant figures, no exponent. */
function three(value: number): string {
  const size = Math.abs(value);
  if (size >= 100 || value === 0) return value.toFixed(0);
  return size >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** Bytes, e.g. `3.21 GiB`. */
export function bytes(value: unknown): string {
  if (!isNumber(value)) return NONE;
  let size = value;
  let unit = 0;
  while (Math.abs(size) >= 1000 && unit < BYTE_UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${Math.round(size)} B` : `${three(size)} ${BYTE_UNITS[unit]}`;
}

/** Bytes per second. */
export function rate(value: unknown): string {
  return isNumber(value) ? `${bytes(value)}/s` : NONE;
}

/** Seconds, e.g. `1.20 ms`, `3.4 s`, `2 h 05 min`. */
export function seconds(value: unknown): string {
  if (!isNumber(value)) return NONE;
  const size = Math.abs(value);
  if (size === 0) return "0 s";
  if (size < 1e-3) return `${three(value * 1e6)} µs`;
  if (size < 1) return `${three(value * 1e3)} ms`;
  if (size < 120) return `${three(value)} s`;
  const minutes = Math.floor(size / 60);
  if (minutes < 60) return `${minutes} min ${pad(Math.floor(size % 60))} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${pad(minutes % 60)} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Whole numbers with thin groups, e.g. `12 345`. */
export function count(value: unknown): string {
  if (!isNumber(value)) return NONE;
  const text = String(Math.round(Math.abs(value)));
  const grouped = text.length > 4 ? text.replace(/\B(?=(\d{3})+$)/g, "\u202f") : text;
  return value < 0 ? `-${grouped}` : grouped;
}

/** A number of things per second or the like, with as many figures as make sense. */
export function number(value: unknown): string {
  if (!isNumber(value)) return NONE;
  if (Number.isInteger(value) || Math.abs(value) >= 1000) return count(value);
  return three(value);
}

/** Percent of something whole; `value` is already in percent. */
export function percent(value: unknown): string {
  return isNumber(value) ? `${value < 9.95 ? value.toFixed(1) : value.toFixed(0)} %` : NONE;
}

/** `1 worker`, `2 workers`. */
export function many(value: number, one: string, more = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : more}`;
}

function pad(value: number, width = 2): string {
  return String(value).padStart(width, "0");
}

/** The time of day of seconds since the epoch, in the reader's zone. */
export function clock(value: unknown, millis = false): string {
  if (!isNumber(value) || value <= 0) return NONE;
  const date = new Date(value * 1000);
  const text = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  return millis ? `${text}.${pad(date.getMilliseconds(), 3)}` : text;
}

/** Day and time of seconds since the epoch. */
export function moment(value: unknown): string {
  if (!isNumber(value) || value <= 0) return NONE;
  const date = new Date(value * 1000);
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${clock(value)}`;
}

/** Any value as text for a table cell. */
export function text(value: unknown): string {
  if (value === null || value === undefined || value === "") return NONE;
  if (typeof value === "string") return value;
  if (typeof value === "number") return number(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  return JSON.stringify(value);
}

/** `tcp://127.0.0.1:4000` without its scheme. */
export function shortAddress(address: string): string {
  return address.replace(/^[a-z]+:\/\//, "");
}

/** The middle of a long text left out, so that start and end can both be read. */
export function middle(value: string, most: number): string {
  if (value.length <= most) return value;
  const tail = Math.floor((most - 1) / 3);
  return `${value.slice(0, most - 1 - tail)}…${value.slice(value.length - tail)}`;
}

/** A group's name without the hash that Dask puts at its end. */
export function withoutHash(name: string): string {
  return name.replace(/-[0-9a-f]{32}$|-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/, "");
}

/** Names of groups in one line: each once, without hashes. */
export function names(all: readonly unknown[]): string {
  return [...new Set(all.map((name) => withoutHash(String(name))))].join(", ");
}
